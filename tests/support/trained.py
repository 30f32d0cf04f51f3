"""A trained network, made once for each process: the digits CNN after a few epochs."""

from __future__ import annotations

import copy
import functools

from torch import Tensor, nn

from deadhead.lab.data import digits
from deadhead.lab.models import digits_cnn
from deadhead.lab.train import DIGITS, fit


@functools.cache
def _trained() -> tuple[nn.Module, Tensor, Tensor, Tensor, Tensor]:
    split = digits()
    model = digits_cnn(seed=0)
    fit(model, split.train_inputs, split.train_targets, **{**DIGITS, "epochs": 5})
    return model, split.train_inputs, split.train_targets, split.test_inputs, split.test_targets


def trained_digits() -> tuple[nn.Module, list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """A copy of the trained network, and the training and test rows in batches."""
    model, inputs, targets, test_inputs, test_targets = _trained()
    train = list(zip(inputs.split(256), targets.split(256), strict=True))
    test = list(zip(test_inputs.split(180), test_targets.split(180), strict=True))
    return copy.deepcopy(model), train, test
