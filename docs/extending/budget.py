"""A budget: the energy of a forward pass, a function of the sizes that remain."""

from collections.abc import Mapping

from deadhead.select.budget import budget
from deadhead.select.sizes import Sizes

MULTIPLY_ADD, BYTE = 4.6, 160.0
"""Picojoules of a 32-bit multiply-add and of a byte read from memory, 45 nm (Horowitz 2014)."""


@budget("energy")
def energy(sizes: Sizes, removed: Mapping[str, int]) -> int:
    """The picojoules of a forward pass of one sample: its multiply-adds, and its bytes read once."""
    return round(MULTIPLY_ADD * sizes.macs(removed) + BYTE * sizes.memory(removed))
