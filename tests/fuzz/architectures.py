"""Random architectures: a small printable specification, and the module that interprets it."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import attention  # noqa: F401
import blocks  # noqa: F401
import choices  # noqa: F401
import contractions  # noqa: F401
import embeddings  # noqa: F401
import experts  # noqa: F401
import indexing  # noqa: F401
import movement  # noqa: F401
import norms  # noqa: F401
import pointwise  # noqa: F401
import recurrent  # noqa: F401
import structures  # noqa: F401
import sums  # noqa: F401
import torch
from embeddings import WORDS
from parts import PARTS, Part, State, randomise, width
from torch import Tensor, nn

KINDS = {"contraction": 8, "activation": 5, "norm": 4, "movement": 5, "structure": 8, "attention": 4}
OUTPUTS = ("tensor", "tensor", "tensor", "tuple", "dict", "nested")
MERGES = ("", "", "", "", "add", "film", "cat", "ids", "bag")
LARGEST = 1500
"""No activation of a sample may have more entries."""


@dataclass(frozen=True)
class Spec:
    """An architecture: the inputs' shape, steps as (part, seed), what a second input does and what comes out.

    Steps may be dropped or repeated: each is made for whatever shape reaches it, and left out where it does not fit.
    """

    start: State
    steps: tuple[tuple[str, int], ...]
    seed: int = 0
    rows: int = 2
    merge: str = ""
    output: str = "tensor"
    head: int = 0

    def without(self, index: int) -> Spec:
        """The same with one step less."""
        return replace(self, steps=self.steps[:index] + self.steps[index + 1 :])


class Merge(nn.Module):
    """A second input, flat, that is projected and joins the first; or ids of words, which are looked up."""

    def __init__(self, state: State, how: str, features: int) -> None:
        super().__init__()
        self.how, self.axis, self.rank = how, state.axis, len(state.shape)
        if how in ("ids", "bag"):
            kind = nn.Embedding if how == "ids" else nn.EmbeddingBag
            self.table = kind(WORDS, state.channels)
            return
        self.project = nn.Linear(features, state.channels)
        self.shift = nn.Linear(features, state.channels)

    def _shaped(self, y: Tensor) -> Tensor:
        return y.unsqueeze(1) if self.axis == 2 else y.reshape(*y.shape, *[1] * (self.rank - 1))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        if self.how == "ids":
            return x + self._shaped(self.table(other).sum(1))
        if self.how == "bag":
            return x * self._shaped(torch.sigmoid(self.table(other)))
        y = self._shaped(torch.tanh(self.project(other)))
        if self.how == "film":
            return x * y + self._shaped(self.shift(other))
        if self.how == "cat":
            shape = list(x.shape)
            shape[self.axis] = y.shape[self.axis]
            return torch.cat([x, y.expand(shape)], self.axis)
        return x + y


class Head(nn.Module):
    """From whatever the steps left to the output: over all positions or at each, with a hidden layer or without."""

    def __init__(self, state: State, dice: random.Random) -> None:
        super().__init__()
        self.axis = state.axis
        flat = state.layout != "flat" and dice.random() < 0.3 and torch.Size(state.shape).numel() <= 300
        self.how = "flatten" if flat else dice.choice(("mean", "mean", "each"))
        features = torch.Size(state.shape).numel() if flat else state.channels
        hidden = width(dice)
        self.first = nn.Linear(features, hidden)
        self.act = dice.choice((nn.ReLU(), nn.GELU(), nn.Tanh(), nn.Softplus()))
        self.last = nn.Linear(hidden, 3, bias=dice.random() < 0.7)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "flatten":
            x = x.flatten(1)
        elif self.axis == 1 and x.dim() > 2:
            x = x.movedim(1, -1)
        y = self.last(self.act(self.first(x)))
        if self.how == "mean" and y.dim() > 2:
            y = y.mean(tuple(range(1, y.dim() - 1)))
        return y  # type: ignore[no-any-return]


class Net(nn.Module):
    """The module of a specification. `gains` are scalars that keep activations near unit size."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        dice = random.Random(spec.seed)
        self.output = spec.output
        self.parts = nn.ModuleList()
        self.gains: list[float] = []
        self.names: list[str] = []
        self.merge: Merge | None = None
        self.merge_at = dice.randrange(len(spec.steps) + 1) if spec.merge else -1
        self.aux_at = dice.randrange(len(spec.steps) + 1)
        x, other = inputs_of(spec, 16, seed=1)[:2] if spec.merge else (inputs_of(spec, 16, seed=1)[0], None)
        state = spec.start
        steps: list[tuple[str, int]] = [*spec.steps, ("", spec.seed)]
        self.aux: nn.Linear | None = None
        self.aux_axis = -1
        with torch.no_grad():
            for index, (name, seed) in enumerate(steps):
                if index == self.merge_at:
                    assert other is not None
                    self.merge = Merge(state, spec.merge, other.shape[1])
                    randomise(self.merge, seed)
                    x = self.merge.eval()(x, other)
                    state = replace(state, shape=tuple(x.shape[1:]))
                if index == self.aux_at and spec.output != "tensor":
                    self.aux = nn.Linear(state.channels, 2)
                    self.aux_axis = state.axis
                    randomise(self.aux, seed)
                made = _try(name, state, seed, x)
                self.parts.append(made[0] if made else nn.Identity())
                self.names.append(name if made else "")
                self.gains.append(made[2] if made else 1.0)
                if made:
                    part, x, gain = made
                    x = x * gain
                    state = State(part.layout, tuple(x.shape[1:]))
            self.head = Head(state, random.Random(spec.head))
            randomise(self.head, spec.head)
        self.train(dice.random() < 0.3)

    @property
    def rigid(self) -> bool:
        """Whether some part may not follow a cut."""
        return any(isinstance(part, Part) and part.rigid for part in self.parts)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        features = x
        for index, (part, gain) in enumerate(zip(self.parts, self.gains, strict=True)):
            if index == self.merge_at and self.merge is not None and other is not None:
                x = self.merge(x, other)
            if index == self.aux_at:
                features = x
            x = part(x)
            if gain != 1.0:
                x = x * gain
        y = self.head(x)
        if self.output == "tensor" or self.aux is None:
            return y
        aux = self.aux(features.movedim(self.aux_axis, -1))
        if self.output == "dict":
            return {"logits": y, "aux": aux}
        return (y, aux) if self.output == "tuple" else {"logits": y, "hidden": (aux, [y.sigmoid()])}


def _try(name: str, state: State, seed: int, x: Tensor) -> tuple[Part, Tensor, float] | None:
    """A part made for `state`, its output and the gain that brings it back to unit size; None where it does not fit."""
    if not name or not PARTS[name].fits(state):
        return None
    part = PARTS[name](state, random.Random(seed))
    randomise(part, seed)
    part.eval()
    try:
        y = part(x)
    except RuntimeError:  # a shape that `fits` does not foresee
        return None
    size = float(y.std())
    if y.shape[1:].numel() > LARGEST or min(y.shape) < 1 or not 1e-3 < size < 1e3:
        return None
    return part, y, 1.0 if 0.4 < size < 2.5 else float(f"{1 / size:.2g}")


def inputs_of(spec: Spec, rows: int, seed: int) -> tuple[Tensor, ...]:
    """Random inputs for a specification."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, *spec.start.shape, generator=generator, dtype=torch.float64)
    if not spec.merge:
        return (x,)
    if spec.merge in ("ids", "bag"):
        return x, torch.randint(WORDS, (rows, 3), generator=generator)
    return x, torch.randn(rows, 5, generator=generator, dtype=torch.float64)


def draw(seed: int, without: Collection[str] = ()) -> Spec:
    """The random specification of a seed; parts named in `without` do not occur in it at the top level."""
    dice = random.Random(f"{seed} architecture")
    starts = (
        State("flat", (dice.choice((3, 5, 8)),)),
        State("tokens", (dice.choice((4, 6)), dice.choice((3, 4, 6)))),
        State("channels", (dice.choice((1, 2, 3)), dice.choice((8, 12)))),
        State("channels", (dice.choice((1, 3)), dice.choice((6, 8)), 8)),
        State("channels", (2, 4, dice.choice((4, 5)), 6)),
    )
    start = dice.choices(starts, (2, 5, 2, 4, 1))[0]
    return Spec(
        start,
        _steps(start, dice, without),
        seed=dice.randrange(10**6),
        rows=dice.choice((1, 2, 3, 4)),
        merge=dice.choice(MERGES) if "merge" not in without else "",
        output=dice.choice(OUTPUTS) if "outputs" not in without else "tensor",
        head=dice.randrange(10**6),
    )


def _steps(start: State, dice: random.Random, without: Collection[str]) -> tuple[tuple[str, int], ...]:
    """Steps that fit each other, found by walking a tensor through them."""
    steps: list[tuple[str, int]] = []
    names, wanted = [_first(start, dice, without)], dice.randrange(3, 10)
    state, x = start, torch.randn(16, *start.shape, dtype=torch.float64)
    while len(steps) < wanted:
        step = (dice.choice(names), dice.randrange(10**6))
        with torch.no_grad():
            made = _try(step[0], state, step[1], x)
        if made:
            steps.append(step)
            x = made[1] * made[2]
            state = State(made[0].layout, tuple(x.shape[1:]))
        kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
        names = [n for n, each in PARTS.items() if each.kind == kind and n not in without and each.fits(state)]
        names = names or ["gelu"]
    return tuple(steps)


def _first(start: State, dice: random.Random, without: Collection[str]) -> str:
    """The first step contracts, so that the input's own axis ends there."""
    names = ("linear", "functional_linear") if start.layout != "channels" else ("conv", "same_conv", "functional_conv")
    return dice.choice([name for name in names if name not in without] or list(names[:1]))
