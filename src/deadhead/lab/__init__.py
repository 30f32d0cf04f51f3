"""The laboratory: experiments of the documents behind deadhead, and what they stand on.

`data`, `models`, `train`: data sets, small networks and a plain training loop. `networks`: data with freshly trained
networks, and many of them at once. `measures`: what is no single call of the library. `experiment`, `judges`, `panels`:
the shape of an experiment, of a verdict and of its figures. `experiments`: a folder for each. `runner`: jobs over seeds
and settings. `findings`: pages. Files here import anything of the package but `cli`; nothing prints, and progress is a
callback handed down.
"""

from __future__ import annotations

from deadhead.lab.data import Split, cifar10_jpeg, digits, load, mnist
from deadhead.lab.models import cifar_cnn, digits_cnn, small_cnn
from deadhead.lab.train import evaluate, fit

__all__ = [
    "Split",
    "cifar10_jpeg",
    "cifar_cnn",
    "digits",
    "digits_cnn",
    "evaluate",
    "fit",
    "load",
    "mnist",
    "small_cnn",
]
