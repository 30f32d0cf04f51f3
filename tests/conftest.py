"""What all tests share: one thread, short latency measurements, and a check that nothing of the user's was touched."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from support.snapshot import Unharmed

# torch's tracer logs thousands of empty lines, which pytest would show for a test that fails.
logging.getLogger("torch.__trace").propagate = False


@pytest.fixture(autouse=True)
def one_thread_and_a_known_seed() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make small networks a hundred times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def short_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forward pass costs is measured for as short as torch's timer allows."""
    monkeypatch.setattr("deadhead.pruning.measure.LATENCY_SECONDS", 1e-3, raising=False)


@pytest.fixture
def unharmed() -> Unharmed:
    """`with unharmed(model, folder):` fails where the model, its modes, hooks or gradients, torch's random numbers and
    settings, or the files of the folder are not to the bit what they were."""
    return Unharmed()
