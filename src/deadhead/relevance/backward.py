"""The backward pass: each operation's rule in turn, and the account of what goes to inputs, biases and nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, fx

from deadhead.errors import RelevanceError
from deadhead.graph.catalogue import names_of
from deadhead.graph.samples import SampleLayout
from deadhead.relevance.forward import Record, Tape
from deadhead.relevance.operations import DETACHED, INDICES, LIVE, Additive, Key, Operation, is_key
from deadhead.relevance.result import Cut
from deadhead.relevance.rules import Contributions, Gradient, RelevanceRule
from deadhead.relevance.samples import Layouts, TogetherError, by_sample, gathered, gathered_shape, total
from deadhead.relevance.signals import Signal, difference, quotient_and_zeros, times

_ALIGNED = frozenset(names_of(aligned=True))
"""Ops whose constant operands are laid out as what they give."""


class BackwardPass:
    """One backward pass over a tape, compared with the tape of a baseline where there is one."""

    def __init__(
        self,
        tape: Tape,
        base: Tape | None,
        rules: Mapping[Operation, RelevanceRule],
        layouts: Layouts,
        rows: int,
        unknown: str | None,
        factors: Mapping[Key, Tensor],
    ) -> None:
        self.tape, self.base_tape, self.rules = tape, base, rules
        self.program, self.layouts, self.rows = tape.program, layouts, rows
        self.unknown_policy, self.factors = unknown, factors
        self.unknown: dict[str, None] = {}
        self.signals: dict[Key, Signal] = {}
        self.biases: dict[str, Tensor] = {}
        self.layers: dict[Key, Tensor] = {}
        self.cuts: dict[str, Cut] = {}
        self.absorbed: Tensor | None = None
        self._behind: Tensor | None = None
        self._size: Tensor | None = None

    # -- the account --------------------------------------------------------------------------------------------------

    def _add(self, sums: Tensor, name: str | None) -> None:
        """Put sums of each sample on the account of what does not go on."""
        self._size = sums.abs() if self._size is None else self._size + sums.abs()
        if name is None:
            self.absorbed = sums if self.absorbed is None else self.absorbed + sums
        else:
            self._behind = sums if self._behind is None else self._behind + sums

    def total(self, value: Tensor, key: Key, operation: Operation | None = None) -> Tensor:
        """The sum of each sample's entries of something laid out as the value `key`."""
        return total(value, self.rows, self._layout(key, operation))

    def _layout(self, key: Key, operation: Operation | None) -> SampleLayout | None:
        if isinstance(key, fx.Node):
            return self.layouts.get(key)
        return self.layouts.get(operation.node if operation is not None else self.program.made_by[key].node)

    def _blame(self, name: str, relevance: Tensor) -> None:
        self._add(by_sample(relevance), name)
        known, number = name, 1
        while known in self.biases and self.biases[known].shape != relevance.shape:
            number += 1
            known = f"{name}#{number}"
        self.biases[known] = self.biases[known] + relevance if known in self.biases else relevance

    # -- what rules ask -----------------------------------------------------------------------------------------------

    def base(self, record: Record) -> Record | None:
        return None if self.base_tape is None else self.base_tape.records[record.operation.key]

    def to_q(self, record: Record, signal: Signal) -> Tensor:
        if signal.form == "Q":
            return signal.tensor
        gap = self._gap(record)
        ratio, none = quotient_and_zeros(signal.tensor, gap)
        self.absorb_where(record, none, signal.tensor)
        return ratio

    def to_r(self, record: Record, signal: Signal) -> Tensor:
        return signal.tensor if signal.form == "R" else times(self._gap(record), signal.tensor)

    def _gap(self, record: Record) -> Tensor:
        base = self.base(record)
        return record.value if base is None else difference(record.value, base.value)

    def absorb(self, record: Record, relevance: Tensor, factor: float = 1.0) -> None:
        self._add(factor * self.total(relevance, record.operation.key, record.operation), None)

    def absorb_where(self, record: Record, none: Tensor | None, relevance: Tensor) -> None:
        if none is not None:
            self.absorb(record, torch.where(none, relevance, torch.zeros_like(relevance)))

    def absorb_remainder(self, record: Record, signal: Tensor, given: Contributions) -> None:
        base = self.base(record)
        gap = record.product if base is None else difference(record.product, base.product)
        rest = self.total(times(gap, signal), record.operation.key, record.operation)
        for key, each in given.items():
            rest = rest - self.total(times(self._moved(key), each.tensor), key, self.program.made_by.get(key))
        self._add(rest, None)

    def _moved(self, key: Key) -> Tensor:
        value: Tensor = self.tape.values[key]
        return value if self.base_tape is None else difference(value, self.base_tape.values[key])

    def _blame_each(self, record: Record, relevance: list[Tensor]) -> None:
        for additive, placed, each in zip(record.operation.additive, record.constants, relevance, strict=True):
            each = each.expand_as(record.value)
            if self.program.status_of(additive.source) == DETACHED:
                self.absorb(record, each)
            else:
                layout = self._layout(record.operation.key, record.operation)
                self._blame_additive(record, additive, gathered(each, placed.shape, self.rows, layout))

    def blame_constants(self, record: Record, q: Tensor, constants: Sequence[Tensor | None]) -> None:
        sums: dict[torch.Size, Tensor] = {}
        layout = self._layout(record.operation.key, record.operation)
        for additive, own, placed in zip(record.operation.additive, record.constants, constants, strict=True):
            if placed is None:  # zeros, in the shape that its relevance would have had
                shape = gathered_shape(q.shape, own.shape, self.rows, layout)
                self._blame_additive(record, additive, q.new_zeros(shape))
                continue
            if self.program.status_of(additive.source) == DETACHED:
                self.absorb(record, times(placed.expand_as(q), q))
                continue
            if self._has_samples(placed, q, layout):
                found = gathered(times(placed.expand_as(q), q), placed.shape, self.rows, layout)
                self._blame_additive(record, additive, found)
                continue
            if placed.shape not in sums:  # a constant times a sum is cheaper than the other way round
                sums[placed.shape] = gathered(q, placed.shape, self.rows, layout)
            total = sums[placed.shape]
            self._blame_additive(record, additive, times(placed.reshape(1, *total.shape[1:]).expand_as(total), total))

    def _has_samples(self, placed: Tensor, value: Tensor, layout: SampleLayout | None) -> bool:
        """Whether a constant has an axis of its own for the samples."""
        axis = 0 if layout is None else layout.axis
        at = axis - (value.dim() - placed.dim())
        return at >= 0 and placed.shape[at] != 1

    def _blame_additive(self, record: Record, additive: Additive, found: Tensor) -> None:
        value = self.tape.values.get(additive.source) if is_key(additive.source) else None
        if isinstance(value, Tensor) and found[0].numel() == value.numel() and value.dim() != record.value.dim():
            found = found.reshape(self.rows, *value.shape)
        self._blame(additive.name, found)

    def blame_biases(self, record: Record, q: Tensor) -> None:
        base = self.base(record)
        if base is None:
            self.blame_constants(record, q, record.constants)
        elif any(not torch.equal(a, b) for a, b in zip(record.constants, base.constants, strict=True)):
            pairs = zip(record.constants, base.constants, strict=True)
            self._blame_each(record, [times(difference(a, b), q) for a, b in pairs])

    def blame_value_at_zero(self, record: Record, relevance: Tensor) -> None:
        value, operation = record.value, record.operation
        found = gathered(relevance, value.shape, self.rows, self._layout(operation.key, operation))
        self._blame(operation.name, found)

    # -- the pass -----------------------------------------------------------------------------------------------------

    def run(self, starts: Mapping[Key, Signal], kept: Collection[Key], cuts: bool, output: Tensor) -> None:
        """Run backward from signals at the outputs; keep the relevance of the values `kept`."""
        for key, signal in starts.items():
            self._send(key, signal)
        if cuts:
            self._cut("outputs", output)
        for operation in reversed(self.program.operations):
            if operation.key not in self.signals or not operation.kind:
                continue
            signal = self.signals[operation.key]
            if operation.key in kept:
                self.layers[operation.key] = self.relevance(operation.key)
            del self.signals[operation.key]
            record = self.tape.records[operation.key]
            for key, each in self._back(record, signal).items():
                self._deliver(record, key, each)
            if cuts:
                self._cut(str(operation.key), output)
            for tape in (self.tape, self.base_tape):
                if tape is not None:
                    tape.forget(operation.key)

    def _back(self, record: Record, signal: Signal) -> Contributions:
        operation = record.operation
        if operation.kind == "embedding":
            relevance = self.to_r(record, signal)
            factor = self.factors.get(operation.key)
            relevance = relevance if factor is None else times(factor, relevance)
            return dict.fromkeys(operation.live, Signal(relevance.sum(-1), "R"))
        if operation.kind == "unknown":
            if self.unknown_policy != "gradient":
                raise RelevanceError(
                    f"{operation.where} has no rule for relevance; pass unknown='gradient' to use its derivative "
                    "there, which leaves what it does not explain in `absorbed`."
                )
            self.unknown[operation.where] = None
            return Gradient().back(self, record, signal)
        return self.rules[operation].back(self, record, signal)

    def _deliver(self, record: Record, key: Key, signal: Signal) -> None:
        status = self.program.status_of(key)
        if status in (LIVE, INDICES):
            self._send(key, signal)
            return
        relevance = signal.tensor if signal.form == "R" else times(self._moved(key), signal.tensor)
        if status == DETACHED:
            self._add(self.total(relevance, key), None)
        else:
            if self.rows > 1 and record.operation.op not in _ALIGNED:
                raise TogetherError
            name, _ = self.program.name_of(key, record.operation.name)
            layout = self._layout(record.operation.key, record.operation)
            self._blame(name, gathered(relevance, relevance.shape, self.rows, layout))

    def _send(self, key: Key, signal: Signal) -> None:
        before = self.signals.get(key)
        if before is None:
            self.signals[key] = signal
        elif before.form == signal.form:
            self.signals[key] = Signal(before.tensor + signal.tensor, signal.form)
        else:
            self.signals[key] = Signal(self._as_r(key, before) + self._as_r(key, signal), "R")

    def _as_r(self, key: Key, signal: Signal) -> Tensor:
        return signal.tensor if signal.form == "R" else times(self._moved(key), signal.tensor)

    def relevance(self, key: Key) -> Tensor:
        """The relevance that has arrived at a value."""
        return self._as_r(key, self.signals[key])

    def remain(self, output: Tensor, starts: Mapping[Key, Signal]) -> None:
        """What the derivative of the explained value leaves of it: nothing, where it is linear in the outputs."""
        rest = output
        for key, signal in starts.items():
            rest = rest - self.total(times(self._moved(key), signal.tensor), key)
        self._add(rest, None)

    def _cut(self, name: str, output: Tensor) -> None:
        nothing = torch.zeros_like(output)
        crossing, size = nothing, nothing if self._size is None else self._size
        for key in self.signals:
            relevance = self.relevance(key)
            crossing = crossing + self.total(relevance, key)
            size = size + self.total(relevance.abs(), key)
        for behind in (self._behind, self.absorbed):
            crossing = crossing if behind is None else crossing + behind
        self.cuts[name] = Cut(output - crossing, size)
