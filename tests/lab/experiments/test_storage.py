"""Storage of pruned weights: bytes by hand, and what holds at quick size."""

from __future__ import annotations

from support.data import needs_data
from support.lab import drawn_all, quick


@needs_data
def test_bytes_are_those_of_the_values_and_indices_that_are_kept() -> None:
    """Durations are measured and asserted nowhere: the machine is not ours."""
    found = quick("storage")
    sizes = found["sparse"]["0.9"]["bytes"]
    open_ = round(0.1 * (200 + 3200 + 16384 + 640))
    assert sizes["zeroed"]["memory"] == 4 * 20522
    # values and columns of the open weights, starts of rows, biases; each of 4 bytes
    assert sizes["sparse"]["memory"] == 4 * (2 * open_ + (8 + 16 + 64 + 10) + 4 + (8 + 16 + 64 + 10))
    assert found["cut_parameters"] == 4019
    assert max(found["output_difference"]) < 1e-6 < found["difference_to_intact"]
    drawn_all("storage")
