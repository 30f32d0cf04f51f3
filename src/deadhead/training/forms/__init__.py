"""The forms in which pruned weights can be kept: zeroed, sparse and cut, side by side in `storage`."""
