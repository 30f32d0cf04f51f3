"""What all tests share: one thread, short latency measurements, and a check that nothing of the user's was touched."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from support.snapshot import Unharmed
from support.traces import ANEW, exported_once

# torch's tracer logs thousands of empty lines, which pytest would show for a test that fails.
logging.getLogger("torch.__trace").propagate = False


BY_CASE = ("zoo/test_zoo.py", "relevance/test_conservation.py", "fuzz/test_fuzz.py")
"""Files whose tests are spread by what stands in brackets: by the architecture that they share."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each file runs in one process, so that its tests share what they trace, and in the order in which they stand."""
    from xdist.scheduler import LoadScopeScheduling

    class Shared(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            return test.partition("[")[2] if file.endswith(BY_CASE) else file

    config.option.loadscopereorder = False
    return Shared(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every claim has a quick case."""
    slow: dict[str, bool] = {}
    for item in items:
        claim = item.nodeid.partition("[")[0]
        slow[claim] = slow.get(claim, True) and item.get_closest_marker("exhaustive") is not None
    if not any("::" in each for each in config.args) and any(slow.values()):
        raise pytest.UsageError(f"{next(each for each in slow if slow[each])} has no case that is not exhaustive")


@pytest.fixture(autouse=True)
def one_thread_and_a_known_seed() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make small networks a hundred times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def an_architecture_is_exported_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests marked `traced_anew` export whatever they trace."""
    if ANEW or request.node.get_closest_marker("traced_anew"):
        yield
    else:
        with exported_once():
            yield


@pytest.fixture(autouse=True)
def short_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forward pass costs is measured for as short as torch's timer allows."""
    monkeypatch.setattr("deadhead.pruning.measure.LATENCY_SECONDS", 1e-3, raising=False)


@pytest.fixture
def unharmed() -> Unharmed:
    """`with unharmed(model, folder):` fails where the model, its modes, hooks or gradients, torch's random numbers and
    settings, or the files of the folder are not to the bit what they were."""
    return Unharmed()
