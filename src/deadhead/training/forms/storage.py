"""`storage`: what zeroed, sparse and removed weights cost in memory, on disk and in time."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor, nn

from deadhead.cut.saved import saved_tensors
from deadhead.cut.verify import floats
from deadhead.errors import DataError
from deadhead.files import json_text
from deadhead.graph.agreement import relative_difference
from deadhead.graph.network import Network, device_of
from deadhead.graph.pytree import as_call, take
from deadhead.graph.trace import batch_size, rows_of, untouched
from deadhead.pruning.pruned import Pruned
from deadhead.text import listed, table
from deadhead.training.forms.sparse import Sparse
from deadhead.training.forms.zeroed import masked, zeroed_like

TIMED = 1e-3
"""Seconds that one measurement takes at least, by repeated calls."""


class Masked(Protocol):
    """What is read of masks."""

    @property
    def network(self) -> Network:
        """The traced network."""

    @property
    def keep(self) -> Mapping[str, Tensor]:
        """{tensor: true where an entry is not closed}."""

    def cut(self) -> Pruned:
        """The network cut along its masks."""


@dataclass(frozen=True)
class Stored:
    """What one form of a network costs.

    Attributes:
        form: "zeroed", "sparse" or "cut".
        parameters: the values of parameters that are stored; a CSR matrix stores those that are not zero.
        disk_bytes: of a safetensors file with parameters and buffers; of a CSR matrix, values and indices.
        memory_bytes: of the tensors that are held between calls, indices included.
        milliseconds: {samples of a batch: the median duration of a call}.
        difference: max |o - o*| / max |o*| of the outputs, o* those of the zeroed network.
    """

    form: str
    parameters: int
    disk_bytes: int
    memory_bytes: int
    milliseconds: dict[int, float]
    difference: float


@dataclass(frozen=True)
class Storage:
    """What `storage` returns; printed, it is a table.

    Attributes:
        rows: one for each form.
        notes: what was measured how, in sentences.
        threads: that torch computed with.
        repeats: measurements of each form and batch.
    """

    rows: tuple[Stored, ...]
    notes: tuple[str, ...]
    threads: int
    repeats: int

    def __getitem__(self, form: str) -> Stored:
        """The row of a form."""
        return next(row for row in self.rows if row.form == form)

    def __str__(self) -> str:
        batches = list(self.rows[0].milliseconds)
        headings = ["weights", "parameters", "bytes on disk", "bytes in memory"]
        headings += [f"ms at {each}" for each in batches] + ["difference"]
        rows = [
            [row.form, f"{row.parameters:,}", f"{row.disk_bytes:,}", f"{row.memory_bytes:,}"]
            + [f"{row.milliseconds[each]:.3f}" for each in batches]
            + [f"{row.difference:.1e}" if row.difference else "0"]
            for row in self.rows
        ]
        width = shutil.get_terminal_size((100, 24)).columns
        return "\n".join([table(headings, rows, width, right=range(1, len(headings))), *self.notes])

    def to_json(self) -> str:
        """All of it as JSON."""
        return json_text(asdict(self))


def storage(
    model: nn.Module,
    masks: Masked | None = None,
    *,
    pruned: Pruned | None = None,
    example: Any = None,
    batches: Sequence[int] = (1, 64),
    repeats: int = 21,
) -> Storage:
    """Compare what the same pruned network costs with weights set to zero, stored as CSR, and cut out.

    Zeroed: the tensors have the shapes of the intact network. Sparse: every weight of two axes or more that has a zero
    is stored as CSR (compressed sparse rows, indices of 32 bits); linear layers multiply by it, weights of all other
    ops are made dense in every call, which torch has no sparse product for. Cut: a smaller dense network.

    Durations are medians of `repeats` measurements, the forms in turn, in evaluation mode without gradients.

    Args:
        model: the network; it is left as it was. With `masks` it is set to zero where they are closed; with `pruned` it
            is the intact network, whose removed entries are zero in the comparison and whose others are those of the
            pruned one; without both it has zeros of its own.
        masks: the masks of the network.
        pruned: what is compared as cut; by default `masks.cut()`.
        example: inputs that the model can be called with; by default those of the masks or of `pruned`.
        batches: the numbers of samples that are timed; samples of the example are repeated.
        repeats: measurements of each form and number of samples.

    Returns:
        `Storage`: a row for each form.

    Raises:
        DataError: there are no zeros to compare, masks or pruned network do not fit the model, or there is no example.

    Source:
        "Pruning in neural networks: purpose and concept", on whether pruned weights save memory and time.

    Example:
        >>> import deadhead as dh
        >>> model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> data = [(torch.randn(64, 2), torch.randint(2, (64,)))]
        >>> pruned = dh.prune(model, data, loss="cross_entropy", units=0.25, criterion="magnitude", compensate="mean")
        >>> found = storage(model, pruned=pruned)
        >>> [(row.form, row.parameters) for row in found.rows]
        [('zeroed', 322), ('sparse', 130), ('cut', 82)]
    """
    if repeats < 1 or not batches or min(batches) < 1:
        raise DataError(f"repeats={repeats} and batches={tuple(batches)} measure nothing; give numbers above 0.")
    if masks is not None and pruned is None:
        pruned = masks.cut()
    zeroed = masked(model, masks.keep) if masks is not None else zeroed_like(model, pruned)
    inputs, axis = _example(example, masks, pruned)
    call = _Calls(inputs, axis, device_of(model))
    sparse, notes = _sparse(zeroed, call)
    forms: dict[str, tuple[nn.Module, dict[str, Tensor]]] = {
        "zeroed": (zeroed, saved_tensors(zeroed)),
        "sparse": (sparse, sparse.stored()),
    }
    if pruned is not None:
        forms["cut"] = (pruned.model, saved_tensors(pruned.model))
    seconds = _seconds({form: module for form, (module, _) in forms.items()}, call, batches, repeats)
    expected = call.outputs(zeroed, max(batches))
    rows = []
    for form, (module, tensors) in forms.items():
        count = sum(parameter.numel() for parameter in module.parameters())
        difference = _difference(call.outputs(module, max(batches)), expected)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        disk = len(safetensors.torch.save(tensors))
        rows.append(Stored(form, sparse.count() if form == "sparse" else count, disk, size, seconds[form], difference))
    threads = torch.get_num_threads()
    notes.append(f"Medians of {repeats} calls in turn, {call.device.type}, torch with threads: {threads}.")
    return Storage(tuple(rows), tuple(notes), threads, repeats)


def _example(example: Any, masks: Masked | None, pruned: Pruned | None) -> tuple[Any, int]:
    """Inputs of a call, and the axis of their samples."""
    axis = pruned.batch_axis if pruned is not None else 0
    if masks is not None:
        axis = masks.network.batch_axis
        example = masks.network.example_call() if example is None else example
    if example is None and pruned is not None:
        example = pruned.example
    if example is None:
        raise DataError("storage needs inputs to call the network with; give example=.")
    return example, axis


class _Calls:
    """Calls of modules with any number of samples of an example."""

    def __init__(self, inputs: Any, axis: int, device: torch.device) -> None:
        tensors, self._structure = take(as_call(inputs))
        self._tensors = [tensor.to(device) for tensor in tensors]
        self._axis = axis
        self.device = device

    def arguments(self, samples: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call."""
        index = torch.arange(samples) % batch_size(self._tensors, self._axis)
        args, kwargs = self._structure.fill(rows_of(self._tensors, self._axis, index))
        return args, kwargs

    def outputs(self, module: nn.Module, samples: int) -> list[Tensor]:
        """The floating-point outputs of a module in evaluation mode."""
        args, kwargs = self.arguments(samples)
        with untouched(module):
            return [tensor.clone() for tensor in floats(module(*args, **kwargs))]

    def wait(self) -> None:
        """Until an accelerator has done what it was asked to do."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()


def _sparse(zeroed: nn.Module, call: _Calls) -> tuple[Sparse, list[str]]:
    """The sparse form, and what is to be said of it."""
    sparse, notes = Sparse(zeroed), []
    if sparse.multiplied:
        try:
            call.outputs(sparse, 1)
            notes.append(f"Multiplied as CSR: {listed(sparse.multiplied, 4)}.")
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            notes.append(f"No linear layer is multiplied as CSR: {reason[:120].rstrip('.')}.")
            sparse = Sparse(zeroed, multiply=False)
    if sparse.unpacked:
        notes.append(f"Stored as CSR and made dense in every call: {listed(sparse.unpacked, 4)}.")
    return sparse, notes


def _seconds(
    modules: Mapping[str, nn.Module], call: _Calls, batches: Sequence[int], repeats: int
) -> dict[str, dict[int, float]]:
    """The median milliseconds of a call of each module with each number of samples, measured in turn."""
    found: dict[str, dict[int, float]] = {form: {} for form in modules}
    with ExitStack() as stack:
        for module in modules.values():
            stack.enter_context(untouched(module))
        for samples in batches:
            args, kwargs = call.arguments(samples)

            def timed(module: nn.Module, times: int, args: Any = args, kwargs: Any = kwargs) -> float:
                call.wait()
                begin = time.perf_counter()
                for _ in range(times):
                    module(*args, **kwargs)
                call.wait()
                return (time.perf_counter() - begin) / times

            times = {form: max(1, round(TIMED / min(timed(m, 1) for _ in range(3)))) for form, m in modules.items()}
            seen: dict[str, list[float]] = {form: [] for form in modules}
            for _ in range(repeats):
                for form, module in modules.items():
                    seen[form].append(1e3 * timed(module, times[form]))
            for form, each in seen.items():
                found[form][samples] = statistics.median(each)
    return found


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative difference of outputs; infinity where their shapes differ."""
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
        return float("inf")
    return max((relative_difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
