"""What a surgery changes in a module, as plain data, and how one surgery follows another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deadhead.errors import CutError


@dataclass
class Surgery:
    """What makes a module smaller, as JSON.

    Attributes:
        keep: {tensor: {axis: the entries that are kept}}.
        settings: (module, attribute, value) that change, numbers and tuples of numbers alone; `config.heads` is an
            attribute of an object that the module holds.
        biases: {new parameter: its length}.
        rewrites: (node, argument position, value) that change in the graph of a traced program.
    """

    keep: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    settings: list[tuple[str, str, Any]] = field(default_factory=list)
    biases: dict[str, int] = field(default_factory=dict)
    rewrites: list[tuple[str, int, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The surgery as values that JSON has."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Surgery:
        """The surgery of such values; raises `ValueError`, `KeyError` or `TypeError` where they are none."""
        keep = {
            name: {int(axis): list(map(int, kept)) for axis, kept in axes.items()}
            for name, axes in data["keep"].items()
        }
        settings = [(str(m), str(a), tuple(v) if isinstance(v, list) else v) for m, a, v in data["settings"]]
        biases = {str(name): int(size) for name, size in data["biases"].items()}
        for name, axes in keep.items():
            if any(axis < 0 or not kept or min(kept) < 0 for axis, kept in axes.items()):
                raise ValueError(f"{name} keeps entries that cannot be")
        for path, attribute, value in settings:
            sizes = value if isinstance(value, tuple) else (value,)
            if any(isinstance(n, bool) or not isinstance(n, int) for n in sizes):
                raise ValueError(f"{path}.{attribute} is no size that a prune sets")
        if any(size < 1 for size in biases.values()):
            raise ValueError("a bias has no entries")
        return Surgery(keep, settings, biases, [(str(node), int(at), value) for node, at, value in data["rewrites"]])

    def then(self, later: Surgery) -> Surgery:
        """The one surgery that does what this one does and then `later`.

        An entry is kept where both keep it: `first[i] for i in later`. Sizes and rewrites of the later one replace
        those of the first, and a bias that the first adds is added as long as the second leaves it. Both name a
        tensor that several modules share alike.

        Args:
            later: a surgery on the module that this one leads to.

        Raises:
            CutError: where `later` keeps entries that this one removes.

        Example:
            >>> first = Surgery({"weight": {0: [0, 2, 5]}}, [("", "out_features", 3)], {"bias": 3})
            >>> both = first.then(Surgery({"weight": {0: [1, 2]}, "bias": {0: [1, 2]}}, [("", "out_features", 2)]))
            >>> both.keep, both.settings, both.biases
            ({'weight': {0: [2, 5]}}, [('', 'out_features', 2)], {'bias': 2})
        """
        keep = {name: dict(axes) for name, axes in self.keep.items()}
        biases = dict(self.biases)
        for name, axes in later.keep.items():
            if name in biases:
                biases[name] = len(axes.get(0, range(biases[name])))
                continue
            own = keep.setdefault(name, {})
            for axis, kept in axes.items():
                if axis in own and max(kept) >= len(own[axis]):
                    raise CutError(
                        f"{name} has {len(own[axis])} entries along axis {axis}, too few for a surgery that keeps "
                        f"entry {max(kept)}: it belongs to another model."
                    )
                own[axis] = [own[axis][i] for i in kept] if axis in own else list(kept)
        settings = {(path, attribute): value for path, attribute, value in [*self.settings, *later.settings]}
        rewrites: dict[tuple[str, int], Any] = {(node, at): value for node, at, value in self.rewrites}
        for node, at, value in later.rewrites:
            rewrites[node, at] = _rewritten(rewrites.get((node, at)), value)
        return Surgery(
            keep,
            [(path, attribute, value) for (path, attribute), value in settings.items()],
            biases | later.biases,
            [(node, at, value) for (node, at), value in rewrites.items()],
        )

    def after(self, earlier: Surgery) -> Surgery:
        """What of this surgery remains to be done on a module that another was done on: `earlier.then(rest)` is this
        surgery.

        Args:
            earlier: a surgery on the same intact module, that removes nothing which this one keeps.

        Raises:
            CutError: where `earlier` removed what this one keeps.

        Example:
            >>> Surgery({"weight": {0: [2, 5]}}).after(Surgery({"weight": {0: [0, 2, 5]}})).keep
            {'weight': {0: [1, 2]}}
        """
        rest = Surgery({}, list(self.settings), {}, [])
        for name in {**earlier.keep, **self.keep}:
            first, both = earlier.keep.get(name, {}), self.keep.get(name, {})
            for axis in {**first, **both}:
                places = {entry: place for place, entry in enumerate(first.get(axis, both.get(axis, [])))}
                if axis not in first:
                    rest.keep.setdefault(name, {})[axis] = list(both[axis])
                elif axis not in both or not places.keys() >= set(both[axis]):
                    raise CutError(
                        f"{name} has already lost entries that this result keeps: it belongs to another model."
                    )
                elif len(both[axis]) < len(first[axis]):
                    rest.keep.setdefault(name, {})[axis] = [places[entry] for entry in both[axis]]
        for name, size in self.biases.items():
            if name not in earlier.biases:
                rest.biases[name] = size
            elif size != earlier.biases[name]:
                rest.keep[name] = {0: list(range(size))}
        before = {(node, at): value for node, at, value in earlier.rewrites}
        for node, at, value in self.rewrites:
            rest.rewrites.append((node, at, _remaining(before.get((node, at)), value)))
        return rest


def _is_fraction(size: Any) -> bool:
    return isinstance(size, (list, tuple))


def _rewritten(first: Any, later: Any) -> Any:
    """An argument of a node that two surgeries rewrite: numbers of the later one, and of a size that the program
    computes the product of both fractions."""
    if not isinstance(first, list) or not isinstance(later, list):
        return later
    return [
        one if two is None else [one[0] * two[0], one[1] * two[1]] if _is_fraction(one) and _is_fraction(two) else two
        for one, two in zip(first, later, strict=True)
    ]


def _remaining(first: Any, both: Any) -> Any:
    """What is still to be rewritten of an argument: a fraction is divided by the one that was carried out."""
    if not isinstance(first, list) or not isinstance(both, list):
        return both
    return [
        (None if one == two else [two[0] * one[1], two[1] * one[0]]) if _is_fraction(one) and _is_fraction(two) else two
        for one, two in zip(first, both, strict=True)
    ]
