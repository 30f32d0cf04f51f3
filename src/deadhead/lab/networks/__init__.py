"""Data with freshly trained networks, and ways to train many of them at once."""
