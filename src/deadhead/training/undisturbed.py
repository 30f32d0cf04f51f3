"""Measuring beside a training run without a trace in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
    on_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if on_cuda else []
    try:
        with ExitStack() as inside:
            inside.enter_context(torch.random.fork_rng(devices=devices))
            inside.enter_context(torch.inference_mode(False))
            for kind in ("cpu", "cuda") if on_cuda else ("cpu",):
                inside.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
