"""Labels: which indices of which axes belong together, found by running labels forward through the graph.

Every index of every parameter axis starts with a fresh label. Data movement moves labels, elementwise ops and
contractions merge them (union-find), ops that mix an axis fix it, for a reason that is recorded. A class of labels that
nothing fixed is a unit.

An axis may share its labels with others: after `reshape(3, heads, width)` of one axis of 3 * heads * width labels, the
three axes carry one *block* of labels together, and what follows decides along which of them the units lie (a
contraction over the width leaves the heads, say). A block that nothing decided is settled at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from deadhead.graph.units.union_find import Array, UnionFind
from deadhead.graph.units.values import INSIDE, UNIFORM, Aligned, Block, Contact, Product, Value, segments_of

__all__ = ["INSIDE", "UNIFORM", "Aligned", "Array", "Block", "Contact", "LabelRule", "Labels", "Product", "Value"]


class Labels(UnionFind):
    """The labelled values of a graph, and what the ops recorded on the way.

    Attributes:
        width: whether normalisations of a whole axis leave it free.
        values: {node: the labels of what it gives}.
        weights: {node: (name, the parameter's axis for each axis)}, for nodes that are a parameter, or one with its
            axes in another order.
        live: the nodes that are not made of parameters alone.
        known: {node: its value}, constants that are indices.
        unknown: {parameter that an op without a rule reads: the reason}.
        consumers, producers, normalised: the places where units are read, made, and normalised.
        points: {(node, which of its outputs): the labels among which these indices choose}.
        derived: the labels over which parameters are contracted with each other, and where.
        muted: set for ops that no output depends on; labels move and merge, and nothing is fixed or recorded.
    """

    def __init__(self, width: bool = False) -> None:
        super().__init__()
        self.width = width
        self.values: dict[fx.Node, Any] = {}
        self.weights: dict[fx.Node, tuple[str, tuple[int, ...]]] = {}
        self.live: set[fx.Node] = set()
        self.known: dict[fx.Node, Array] = {}
        self.unknown: dict[str, str] = {}
        self.consumers: list[Contact] = []
        self.producers: list[Contact] = []
        self.normalised: list[Contact] = []
        self.points: dict[tuple[fx.Node, int], Array] = {}
        self.derived: list[tuple[Array, str]] = []
        self._open: list[Value] = []

    def record(self, contact: Contact, to: list[Contact]) -> None:
        """Add a place where units are made, read or normalised to the list of such places."""
        if not self.muted:
            to.append(contact)

    def parameter(self, shape: Sequence[int]) -> Value:
        """A tensor whose every axis starts with fresh labels."""
        return Value(
            tuple(shape), tuple(Block((axis,), self.fresh(size)) for axis, size in enumerate(shape)), ("",) * len(shape)
        )

    @staticmethod
    def plain(shape: Sequence[int], why: str) -> Value:
        """A tensor without labels."""
        return Value(tuple(shape), (), (why,) * len(shape))

    def tidy(self, value: Value) -> Value:
        """`value` without those axes of its blocks along which labels are equal: units do not lie along them."""
        blocks: list[Block] = []
        why = list(value.why)
        for block in value.blocks:
            if not block.labels.size:
                why = [UNIFORM if axis in block.axes else each for axis, each in enumerate(why)]
                continue
            labels = self.find(block.labels)
            axes = list(block.axes)
            for place in range(len(axes) - 1, -1, -1):
                first = labels.take([0], axis=place)
                if len(axes) > 1 and np.array_equal(np.broadcast_to(first, labels.shape), labels):
                    labels = first.squeeze(place)
                    why[axes[place]] = why[axes[place]] or INSIDE
                    del axes[place]
            blocks.append(Block(tuple(axes), labels))
        return Value(value.shape, tuple(blocks), tuple(why))

    def fix_axis(self, value: Value, axis: int, why: str) -> Value:
        """`value` with one axis fixed. Where it shares a block, labels along it are merged and the block loses it."""
        block = value.block_of(axis)
        reasons = list(value.why)
        reasons[axis] = why if reasons[axis] in ("", UNIFORM) else reasons[axis]
        if block is None:
            return replace(value, why=tuple(reasons))
        others = tuple(each for each in value.blocks if each is not block)
        if len(block.axes) == 1:
            self.fix(block.labels, why)
            return Value(value.shape, others, tuple(reasons))
        place = block.axes.index(axis)
        first = block.labels.take([0], axis=place)
        self.union(block.labels, first)
        kept = Block(tuple(a for a in block.axes if a != axis), self.find(first.squeeze(place)))
        return self.tidy(Value(value.shape, (*others, kept), tuple(reasons)))

    def fix_all(self, value: Value, why: str) -> Value:
        """`value` with all axes fixed."""
        for block in value.blocks:
            self.fix(block.labels, why)
        return Value(value.shape, (), tuple(each or why for each in value.why))

    @staticmethod
    def drop(value: Value, axis: int) -> Value:
        """`value` without an axis that carries no labels."""
        blocks = tuple(Block(tuple(a - (a > axis) for a in block.axes), block.labels) for block in value.blocks)
        return Value(value.shape[:axis] + value.shape[axis + 1 :], blocks, value.why[:axis] + value.why[axis + 1 :])

    def take(self, value: Value, axis: int, indices: Array) -> Value:
        """`value` at the given indices of one axis, in that order, some of them repeated."""
        shape = (*value.shape[:axis], len(indices), *value.shape[axis + 1 :])
        blocks = tuple(
            Block(block.axes, block.labels.take(indices, axis=block.axes.index(axis))) if axis in block.axes else block
            for block in value.blocks
        )
        return Value(shape, blocks, value.why)

    def permute(self, value: Value, order: Sequence[int]) -> Value:
        """Axis i of the result is axis order[i] of `value`."""
        place = {axis: new for new, axis in enumerate(order)}
        blocks = []
        for block in value.blocks:
            axes = [place[axis] for axis in block.axes]
            ranks = np.argsort(axes)
            blocks.append(Block(tuple(axes[r] for r in ranks), block.labels.transpose(ranks)))
        return Value(tuple(value.shape[a] for a in order), tuple(blocks), tuple(value.why[a] for a in order))

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Row-major reshape. Merged axes repeat the labels of the one that has them; split axes share a block."""
        shape = tuple(shape)
        value = self.tidy(value)
        if 0 in shape or 0 in value.shape:
            return self.plain(shape, "it is empty") if not value.blocks else self.fix_all(value, "it is empty")
        segments = list(segments_of(value.shape, shape))
        for old, _ in segments:
            value = self._label_uniform(value, old)
        for old, _ in segments:
            touching = sorted({block.axes[0]: block for block in value.blocks if set(block.axes) & set(old)}.items())
            for _, block in touching[1:]:
                for axis in set(block.axes) & set(old):
                    value = self.fix_axis(value, axis, "a reshape merges it with another labelled axis")
        why = [""] * len(shape)
        for old, new in segments:
            reason = next((value.why[a] for a in old if value.why[a] and value.block_of(a) is None), INSIDE)
            for axis in new:
                why[axis] = reason
        blocks = []
        for block in value.blocks:
            touched = [(old, new) for old, new in segments if set(old) & set(block.axes)]
            if not any(new for _, new in touched):
                self.fix(block.labels, "a reshape drops its axis")
                continue
            all_old = [axis for old, _ in touched for axis in old]
            all_new = [axis for _, new in touched for axis in new]
            index = tuple(slice(None) if axis in block.axes else None for axis in all_old)
            labels = np.broadcast_to(block.labels[index], [value.shape[a] for a in all_old])
            blocks.append(Block(tuple(all_new), labels.reshape([shape[a] for a in all_new])))
            for axis in all_new:
                why[axis] = ""
        result = self.tidy(Value(shape, tuple(blocks), tuple(why)))
        if any(len(block.axes) > 1 for block in result.blocks):
            self._open.append(result)
        return result

    def _label_uniform(self, value: Value, axes: list[int]) -> Value:
        """`value` with fresh labels on what is the same all along among `axes`, which a reshape is to merge with others
        that have none: it may be split again."""
        free = tuple(axis for axis in axes if value.why[axis] == UNIFORM and value.shape[axis] > 1)
        if len(axes) < 2 or not free or any(value.block_of(axis) for axis in axes):
            return value
        sizes = [value.shape[axis] for axis in free]
        block = Block(free, self.fresh(int(np.prod(sizes))).reshape(sizes))
        return Value(value.shape, (*value.blocks, block), value.why)

    def settle(self) -> None:
        """Decide for every block that still spans several axes: units lie along the longest of them. What is fixed
        already is one label there, and decides nothing."""
        fixed = self.fresh(1)
        self.fix(fixed, INSIDE)
        for value in self._open:
            blocks = tuple(
                Block(block.axes, np.where(self.fixed(block.labels), fixed, block.labels)) for block in value.blocks
            )
            value = self.tidy(replace(value, blocks=blocks))
            while any(len(block.axes) > 1 for block in value.blocks):
                block = next(block for block in value.blocks if len(block.axes) > 1)
                shortest = min(block.axes, key=lambda axis: (value.shape[axis], axis))
                value = self.fix_axis(value, shortest, INSIDE)

    def align(
        self,
        operands: Sequence[tuple[Value, Sequence[str]]],
        sizes: dict[str, int],
        contracted: Iterable[str],
        why: str,
    ) -> Aligned:
        """Merge the labels of axes that share a letter, as in an einsum.

        Letters that are fixed in any operand are fixed in all.

        Args:
            operands: the values, with a letter for each axis.
            sizes: {letter: the size of its axis}, in order.
            contracted: letters that end alone in their blocks: where one shared a block with others, the units lie
                along those.
            why: the reason for axes that are fixed here.
        """
        values = [self._spread(value, letters, sizes, why) for value, letters in operands]
        contracted = set(contracted)
        while True:
            change = self._conflict(
                [(v, letters) for v, (_, letters) in zip(values, operands, strict=True)], contracted, sizes
            )
            if change is None:
                break
            letter, reason = change
            for i, (_, letters) in enumerate(operands):
                for axis, each in enumerate(letters):
                    if each == letter and values[i].shape[axis] == sizes[letter]:
                        values[i] = self.fix_axis(values[i], axis, reason or why)
        joint: dict[str, tuple[str, ...]] = {}
        arrays: dict[tuple[str, ...], Array] = {}
        order = {letter: rank for rank, letter in enumerate(sizes)}
        parts = [
            (tuple(letters[a] for a in block.axes), block.labels)
            for value, (_, letters) in zip(values, operands, strict=True)
            for block in value.blocks
        ]
        for letters, _ in parts:
            merged = set(letters).union(*(joint.get(letter, ()) for letter in letters))
            group = tuple(sorted(merged, key=order.__getitem__))
            for letter in group:
                joint[letter] = group
        for letters, labels in parts:
            group = joint[letters[0]]
            ranks = sorted(range(len(letters)), key=lambda i: order[letters[i]])
            labels = labels.transpose(ranks)
            index = tuple(slice(None) if letter in letters else None for letter in group)
            labels = np.broadcast_to(labels[index], [sizes[letter] for letter in group])
            if group in arrays:
                self.union(arrays[group], labels)
            else:
                arrays[group] = labels
        reasons: dict[str, str] = {}
        for value, (_, letters) in zip(values, operands, strict=True):
            for axis, letter in enumerate(letters):
                if value.shape[axis] == sizes[letter] and value.why[axis] and reasons.get(letter, UNIFORM) == UNIFORM:
                    reasons[letter] = value.why[axis]
        blocks = {letter: (group, self.find(arrays[group])) for letter, group in joint.items()}
        return Aligned(blocks, reasons)

    def _spread(self, value: Value, letters: Sequence[str], sizes: dict[str, int], why: str) -> Value:
        """`value` with labels on broadcast axes of size one fixed: one index cannot stand for many."""
        value = self.tidy(value)
        for axis, letter in enumerate(letters):
            if value.shape[axis] == 1 and sizes[letter] != 1:
                value = self.fix_axis(value, axis, f"{why} broadcasts it")
        return value

    @staticmethod
    def _conflict(
        operands: Sequence[tuple[Value, Sequence[str]]], contracted: set[str], sizes: dict[str, int]
    ) -> tuple[str, str] | None:
        """A letter that has to be fixed before blocks can be merged, and the reason."""
        labelled: dict[str, set[str]] = {}
        for value, letters in operands:
            for block in value.blocks:
                names = {letters[axis] for axis in block.axes}
                for name in names:
                    labelled.setdefault(name, set()).update(names)
        for value, letters in operands:
            for axis, letter in enumerate(letters):
                broadcast = (value.shape[axis] == 1 and sizes[letter] != 1) or value.why[axis] == UNIFORM
                if letter in labelled and not broadcast and value.block_of(axis) is None:
                    return letter, value.why[axis]
        for letter, names in labelled.items():
            if letter in contracted and len(names) > 1:
                return letter, INSIDE
        rank = {letter: place for place, letter in enumerate(sizes)}
        for value, letters in operands:
            for block in value.blocks:
                letter = letters[block.axes[0]]
                joint = labelled[letter]
                if len(block.axes) == 1 < len(joint) and letter == max(joint, key=rank.__getitem__):
                    return letter, INSIDE  # units lie along the outer axes of a block
        for value, letters in operands:
            where = [{letters[axis] for axis in block.axes} for block in value.blocks]
            for i, names in enumerate(where):
                for other in where[i + 1 :]:
                    for name in sorted(other):
                        if labelled[name] & names:
                            return name, "it meets two labelled axes at once"
        return None

    def assemble(self, shape: Sequence[int], letters: Sequence[str], aligned: Aligned, why: str) -> Value:
        """The value whose axes are `letters`, with the labels that `align` merged.

        Args:
            shape: the sizes of its axes.
            letters: a letter for each axis.
            aligned: what `align` returned.
            why: the reason for axes that have no labels and no other reason.
        """
        found = aligned.blocks
        place = {letter: axis for axis, letter in enumerate(letters)}
        blocks: list[Block] = []
        for group in dict.fromkeys(found[letter][0] for letter in letters if letter in found):
            labels = found[group[0]][1]
            axes = [place[letter] for letter in group]
            ranks = np.argsort(axes)
            blocks.append(Block(tuple(axes[r] for r in ranks), labels.transpose(ranks)))
        covered = {axis for block in blocks for axis in block.axes}
        reasons = tuple("" if a in covered else aligned.reasons.get(letters[a], why) for a in range(len(shape)))
        return self.tidy(Value(tuple(shape), tuple(blocks), reasons))


LabelRule = Callable[[Labels, fx.Node], Any]
