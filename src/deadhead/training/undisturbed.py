"""Measuring beside a training run without a trace in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave every global random generator as it was: Python's, NumPy's, torch's on the CPU and on all CUDA devices.

    Reading a shuffled loader, tracing and measuring may draw random numbers; inside this block they do, and the
    training loop behind it draws the numbers that it would have drawn without the block. Autocast is off inside.

    Example:
        >>> before = torch.get_rng_state()
        >>> with undisturbed():
        ...     _ = torch.rand(3), random.random(), np.random.rand()
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    python, array = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    kinds = ["cpu", *(["cuda"] if torch.cuda.is_initialized() else [])]
    try:
        with torch.random.fork_rng(devices=devices), torch.inference_mode(False):
            casts = [torch.autocast(kind, enabled=False) for kind in kinds]
            for cast in casts:
                cast.__enter__()
            try:
                yield
            finally:
                for cast in reversed(casts):
                    cast.__exit__(None, None, None)
    finally:
        random.setstate(python)
        np.random.set_state(array)
