"""What experiments stand on: data sets, small models and a plain training loop.

Imports from `deadhead.errors` and `deadhead.progress` and from nothing else in this package, so that anything above
may use it; `cli` and the experiments do. Nothing here prints or draws: progress is a callback handed down.
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
