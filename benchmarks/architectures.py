"""Which architectures of tests/zoo can be pruned, beside Torch-Pruning in the same run.

    python benchmarks/architectures.py [plain/vit huggingface/bert ...]

Each is cut to half of the units of every group by magnitude. "pass" means that the result runs and computes what its
gated original computes, on inputs of another number of samples than it was traced with; groups are those that lost
units of all, units those that were removed of all. Seconds are of one run: to trace, to prove by trial cuts which
groups can lose units, to cut.

Torch-Pruning (pip install --no-deps torch-pruning) prunes half by magnitude too, in a process of its own, which is
ended after 30 seconds. "runs" only means that its result can be called: nothing says that it computes the same without
what was removed; "other outputs" that the outputs have another shape than before. Entries of transformers are left out
where that is not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from machine import print_machine
from torch import Tensor, nn

import deadhead as dh
import deadhead.pruning.measure
from deadhead.cut.verify import tolerance_of, verify
from deadhead.data.calibration import as_batch
from deadhead.gates.state import PrunedState

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from zoo import plain

PATIENCE = 30
"""Maximum time for Torch-Pruning on one architecture, in seconds."""


def entries() -> dict[str, Any]:
    """All entries of the zoo by their registry and name."""
    found: dict[str, Any] = {f"plain/{name}": entry for name, entry in plain.ENTRIES.items()}
    if importlib.util.find_spec("transformers") is not None:
        from zoo import huggingface

        found.update({f"huggingface/{name}": entry for name, entry in huggingface.ENTRIES.items()})
    return found


def build(name: str, entry: Any) -> nn.Module:
    if name.startswith("plain/"):
        return entry.build()
    from zoo import huggingface

    return huggingface.built(entry.name)


def run(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def floats(outputs: Any) -> Iterator[Tensor]:
    """The floating-point tensors of whatever a model returns."""
    if isinstance(outputs, Tensor) and outputs.is_floating_point():
        yield outputs
    elif isinstance(outputs, (Mapping, tuple, list)):
        for value in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from floats(value)


def squares(outputs: Any, batch: Any) -> Tensor:
    """The mean square of each sample's first output."""
    first = next(floats(outputs))
    return first.reshape(first.shape[0], -1).square().mean(1)


def gist(error: BaseException) -> str:
    """The first line of an error, short."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:60]


def ours(name: str, entry: Any) -> tuple[str, bool]:
    """The result of deadhead on an entry, as columns, and whether it passes."""
    axis = getattr(entry, "batch_axis", 0)
    model = build(name, entry)
    torch.manual_seed(0)
    data, fresh = entry.inputs(6), entry.inputs(7)
    start = time.perf_counter()
    try:
        network = dh.trace(model, entry.inputs(4), batch_axis=axis)
        tracing = time.perf_counter() - start
        total = sum(group.size for group in network.groups)
        pruned = dh.prune(
            network, [data if isinstance(data, dict) else (data,)], loss=squares, units=0.5, criterion="magnitude",
            compensate="zero",
        )  # fmt: skip
        batch = as_batch(fresh if isinstance(fresh, dict) else (fresh,), batch_axis=axis)
        difference = verify(PrunedState.of(network, pruned.plan), pruned.model, [batch])
    except dh.DeadheadError as error:
        return f"{type(error).__name__}: {str(error).replace(str(Path.cwd()) + '/', '')}"[:57].ljust(58), False
    good = difference <= 10 * tolerance_of(model)
    verdict = "pass" if good else f"{difference:.0e}"
    seconds = pruned.report.seconds
    cut = f"{len(pruned.report.groups)}/{len(network.groups)}"
    removed = f"{pruned.plan.count}/{total}"
    return f"{verdict:6}{cut:>9}{removed:>13}{tracing:8.2f} s{seconds['units']:8.2f} s{seconds['cut']:8.2f} s", good


def theirs(name: str, entry: Any, results: Connection) -> None:
    """Send the result of Torch-Pruning on an entry to `results`."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import torch_pruning as tp

        model, inputs = build(name, entry), entry.inputs(4)
        before = sum(parameter.numel() for parameter in model.parameters())
        shapes = [output.shape for output in floats(run(model, inputs))]
        try:
            importance = tp.importance.MagnitudeImportance(p=1)
            tp.pruner.MagnitudePruner(model, inputs, importance=importance, pruning_ratio=0.5).step()
        except BaseException as error:
            results.send(f"fails: {gist(error)}")
            return
        remaining = sum(parameter.numel() for parameter in model.parameters())
        try:
            found = [output.shape for output in floats(run(model, inputs))]
        except BaseException as error:
            results.send(f"its result fails: {gist(error)}")
            return
        if remaining == before:
            results.send("does nothing")
        else:
            same = "" if found == shapes else ", other outputs"
            results.send(f"runs{same}, {remaining / before:.0%} of parameters remain")


def patiently(name: str, entry: Any) -> str:
    """The same in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=theirs, args=(name, entry, there))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(PATIENCE) else "hangs"
    except EOFError:
        return "crashes"
    finally:
        process.kill()
        process.join()


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    deadhead.pruning.measure.LATENCY_SECONDS = 1e-3
    known = entries()
    unknown = [name for name in sys.argv[1:] if name not in known]
    if unknown:
        sys.exit(f"There is no entry {', '.join(unknown)}; the entries are {', '.join(known)}.")
    chosen = sys.argv[1:] or list(known)
    peer = importlib.util.find_spec("torch_pruning") is not None
    if peer:
        import torch_pruning  # noqa: F401 - once, and not in each process
    print_machine()
    print(
        f"{'architecture':40}{'':6}{'groups':>9}{'units':>13}{'trace':>10}{'trials':>10}{'cut':>10}  "
        f"{'Torch-Pruning' if peer else 'Torch-Pruning is not installed'}"
    )
    for name in {"plain/alexnet", chosen[0]}:
        ours(name, known[name])  # the first of a process, and of transformers, load a good deal
    passed, results = 0, []
    for name in chosen:
        row, good = ours(name, known[name])
        passed += good
        results.append(patiently(name, known[name]) if peer else "")
        print(f"{name:40}{row}  {results[-1]}", flush=True)
    print(f"{passed} of {len(chosen)} pass")
    if peer:
        ends = ("runs", "its result fails", "fails", "does nothing", "hangs", "crashes")
        print("Torch-Pruning: " + ", ".join(f"{sum(r.startswith(e) for r in results)} {e}" for e in ends))


if __name__ == "__main__":
    main()
