"""The pass backward: each step's rule in turn, sums for each sample, and the account of what goes where."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, fx

from deadhead.errors import RelevanceError
from deadhead.graph.catalogue import names_of
from deadhead.relevance.edges import Signal, difference, quotient_and_zeros, times
from deadhead.relevance.forward import Record, Tape
from deadhead.relevance.result import Cut
from deadhead.relevance.rules import Contributions, Gradient, Rule
from deadhead.relevance.samples import Owners, Place, TogetherError, by_row, gathered, gathered_shape, total
from deadhead.relevance.steps import DETACHED, INDICES, LIVE, Additive, Key, Step, is_key

_ALIGNED = frozenset(names_of(aligned=True))
"""Ops whose constant operands are laid out as what they give."""


class Pass:
    """One pass backward over a tape, perhaps against the tape of a baseline."""

    def __init__(
        self,
        tape: Tape,
        base: Tape | None,
        rules: Mapping[Step, Rule],
        owners: Owners,
        rows: int,
        unknown: str | None,
        factors: Mapping[Key, Tensor],
    ) -> None:
        self.tape, self.base_tape, self.rules = tape, base, rules
        self.plan, self.owners, self.rows = tape.plan, owners, rows
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

    def total(self, value: Tensor, key: Key, step: Step | None = None) -> Tensor:
        """The sum of each sample's entries of something laid out as the value `key`."""
        return total(value, self.rows, self._owner(key, step))

    def _owner(self, key: Key, step: Step | None) -> Place | None:
        if isinstance(key, fx.Node):
            return self.owners.get(key)
        return self.owners.get(step.node if step is not None else self.plan.made_by[key].node)

    def _blame(self, name: str, relevance: Tensor) -> None:
        self._add(by_row(relevance), name)
        known, number = name, 1
        while known in self.biases and self.biases[known].shape != relevance.shape:
            number += 1
            known = f"{name}#{number}"
        self.biases[known] = self.biases[known] + relevance if known in self.biases else relevance

    # -- what rules ask -----------------------------------------------------------------------------------------------

    def base(self, record: Record) -> Record | None:
        return None if self.base_tape is None else self.base_tape.records[record.step.key]

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
        self._add(factor * self.total(relevance, record.step.key, record.step), None)

    def absorb_where(self, record: Record, none: Tensor | None, relevance: Tensor) -> None:
        if none is not None:
            self.absorb(record, torch.where(none, relevance, torch.zeros_like(relevance)))

    def absorb_rest(self, record: Record, signal: Tensor, given: Contributions) -> None:
        base = self.base(record)
        gap = record.product if base is None else difference(record.product, base.product)
        rest = self.total(times(gap, signal), record.step.key, record.step)
        for key, each in given.items():
            rest = rest - self.total(times(self._moved(key), each.tensor), key, self.plan.made_by.get(key))
        self._add(rest, None)

    def _moved(self, key: Key) -> Tensor:
        value: Tensor = self.tape.values[key]
        return value if self.base_tape is None else difference(value, self.base_tape.values[key])

    def blame(self, record: Record, relevance: list[Tensor]) -> None:
        for additive, placed, each in zip(record.step.additive, record.constants, relevance, strict=True):
            each = each.expand_as(record.value)
            if self.plan.status_of(additive.source) == DETACHED:
                self.absorb(record, each)
            else:
                owner = self._owner(record.step.key, record.step)
                self._blame_additive(record, additive, gathered(each, placed.shape, self.rows, owner))

    def blame_shares(self, record: Record, q: Tensor, constants: Sequence[Tensor | None]) -> None:
        sums: dict[torch.Size, Tensor] = {}
        owner = self._owner(record.step.key, record.step)
        for additive, own, placed in zip(record.step.additive, record.constants, constants, strict=True):
            if placed is None:  # zeros, in the shape that its relevance would have had
                shape = gathered_shape(q.shape, own.shape, self.rows, owner)
                self._blame_additive(record, additive, q.new_zeros(shape))
                continue
            if self.plan.status_of(additive.source) == DETACHED:
                self.absorb(record, times(placed.expand_as(q), q))
                continue
            if self._has_samples(placed, q, owner):
                found = gathered(times(placed.expand_as(q), q), placed.shape, self.rows, owner)
                self._blame_additive(record, additive, found)
                continue
            if placed.shape not in sums:  # a constant times a sum is cheaper than the other way round
                sums[placed.shape] = gathered(q, placed.shape, self.rows, owner)
            total = sums[placed.shape]
            self._blame_additive(record, additive, times(placed.reshape(1, *total.shape[1:]).expand_as(total), total))

    def _has_samples(self, placed: Tensor, value: Tensor, owner: Place | None) -> bool:
        """Whether a constant has an axis of its own for the samples."""
        axis = 0 if owner is None else owner.axis
        at = axis - (value.dim() - placed.dim())
        return at >= 0 and placed.shape[at] != 1

    def _blame_additive(self, record: Record, additive: Additive, found: Tensor) -> None:
        value = self.tape.values.get(additive.source) if is_key(additive.source) else None
        if isinstance(value, Tensor) and found[0].numel() == value.numel() and value.dim() != record.value.dim():
            found = found.reshape(self.rows, *value.shape)
        self._blame(additive.name, found)

    def blame_all(self, record: Record, q: Tensor) -> None:
        base = self.base(record)
        if base is None:
            self.blame_shares(record, q, record.constants)
        elif any(not torch.equal(a, b) for a, b in zip(record.constants, base.constants, strict=True)):
            pairs = zip(record.constants, base.constants, strict=True)
            self.blame(record, [times(difference(a, b), q) for a, b in pairs])

    def blame_own(self, record: Record, relevance: Tensor) -> None:
        value, step = record.value, record.step
        found = gathered(relevance, value.shape, self.rows, self._owner(step.key, step))
        self._blame(step.name, found)

    # -- the pass -----------------------------------------------------------------------------------------------------

    def run(self, starts: Mapping[Key, Signal], kept: Collection[Key], cuts: bool, output: Tensor) -> None:
        """Run backward from signals at the outputs; keep the relevance of the values `kept`."""
        for key, signal in starts.items():
            self._send(key, signal)
        if cuts:
            self._cut("outputs", output)
        for step in reversed(self.plan.steps):
            if step.key not in self.signals or not step.kind:
                continue
            signal = self.signals[step.key]
            if step.key in kept:
                self.layers[step.key] = self.relevance(step.key)
            del self.signals[step.key]
            record = self.tape.records[step.key]
            for key, each in self._back(record, signal).items():
                self._deliver(record, key, each)
            if cuts:
                self._cut(str(step.key), output)
            for tape in (self.tape, self.base_tape):
                if tape is not None:
                    tape.forget(step.key)

    def _back(self, record: Record, signal: Signal) -> Contributions:
        step = record.step
        if step.kind == "embedding":
            relevance = self.to_r(record, signal)
            factor = self.factors.get(step.key)
            relevance = relevance if factor is None else times(factor, relevance)
            return dict.fromkeys(step.live, Signal(relevance.sum(-1), "R"))
        if step.kind == "unknown":
            if self.unknown_policy != "gradient":
                raise RelevanceError(
                    f"{step.where} has no rule for relevance; pass unknown='gradient' to use its derivative there, "
                    "which leaves what it does not explain in `absorbed`."
                )
            self.unknown[step.where] = None
            return Gradient().back(self, record, signal)
        return self.rules[step].back(self, record, signal)

    def _deliver(self, record: Record, key: Key, signal: Signal) -> None:
        status = self.plan.status_of(key)
        if status in (LIVE, INDICES):
            self._send(key, signal)
            return
        relevance = signal.tensor if signal.form == "R" else times(self._moved(key), signal.tensor)
        if status == DETACHED:
            self._add(self.total(relevance, key), None)
        else:
            if self.rows > 1 and record.step.op not in _ALIGNED:
                raise TogetherError
            name, _ = self.plan.name_of(key, record.step.name)
            owner = self._owner(record.step.key, record.step)
            self._blame(name, gathered(relevance, relevance.shape, self.rows, owner))

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
