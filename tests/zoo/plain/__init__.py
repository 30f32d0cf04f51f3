"""Networks of the kinds that people train, in plain PyTorch and small: what `deadhead` meets when it is used.

Each is shaped as its namesake is in torchvision, in torch.nn or in people's own scripts, with sizes that differ from
one another where the architecture lets them, so that no two axes are equally long by chance.
"""

from __future__ import annotations

from zoo.plain import convolutional, own, pixels, recurrent, reparametrised, sequences, transformers, unusual, vision
from zoo.plain.entry import ENTRIES, Entry

__all__ = [
    "ENTRIES",
    "Entry",
    "convolutional",
    "own",
    "pixels",
    "recurrent",
    "reparametrised",
    "sequences",
    "transformers",
    "unusual",
    "vision",
]
