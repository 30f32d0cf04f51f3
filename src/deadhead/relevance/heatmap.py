"""The picture of a relevance: inputs, their heatmaps, and bars for what inputs and biases contribute."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from deadhead.drawing import FAINT, INK, canvas, plain
from deadhead.errors import DataError
from deadhead.graph.pytree import take

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Array = npt.NDArray[np.float64]


class Drawable(Protocol):
    """What a picture shows of a relevance."""

    @property
    def given(self) -> Any: ...
    @property
    def inputs(self) -> Any: ...
    @property
    def output(self) -> Tensor: ...
    @property
    def residual(self) -> Tensor: ...
    @property
    def target(self) -> Tensor | None: ...
    @property
    def batch_axis(self) -> int: ...

    def contributions(self, sample: int = 0) -> dict[str, float]: ...


FOR, AGAINST = "#b2182b", "#2166ac"
MOST_SAMPLES, MOST_TENSORS, MOST_BARS, MOST_TOKENS = 8, 3, 9, 160
CLIPPED = 0.998
"""The colours end at this quantile of a heatmap's absolute values: one pixel must not fade all others."""


def heatmap(
    relevance: Drawable, path: str | os.PathLike[str] | None, samples: Sequence[int] | None, tokens: Any
) -> Figure:
    """Draw a row for each sample: inputs, heatmaps, and bars; see `Relevance.heatmap` for arguments and errors."""
    rows = len(relevance.output)
    chosen = list(range(min(rows, MOST_SAMPLES))) if samples is None else list(samples)
    if not chosen or any(not 0 <= sample < rows for sample in chosen):
        raise DataError(f"samples={chosen} names samples that are not there: there are {rows}, counted from 0.")
    pairs = _pairs(relevance)
    heights = [max(2.4, 0.75 + 0.19 * len(_bars(relevance, sample))) for sample in chosen]
    with canvas(4.0 + 2.1 * sum(2 if _is_picture(a) else 2.2 for a, _ in pairs), sum(heights) + 0.1) as whole:
        rooms = whole.subfigures(len(chosen), 1, height_ratios=heights, squeeze=False)[:, 0]
        for room, sample in zip(rooms, chosen, strict=True):
            _draw_sample(room, relevance, pairs, sample, tokens)
    if path is not None:
        _save(whole, Path(path))
    return whole


def _save(figure: Figure, path: Path) -> None:
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise DataError(f"{path} ends in no format that can be drawn; the formats are {', '.join(sorted(known))}.")
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path} cannot be written: the folder {path.parent} is not there.")
    figure.savefig(path, dpi=150)


def _pairs(relevance: Drawable) -> list[tuple[Array, Array]]:
    """The tensors that were given and their relevance, samples first, those first that have any."""
    axis, found = relevance.batch_axis, []
    for given, own in zip(take(relevance.given)[0], take(relevance.inputs)[0], strict=True):
        if own.dim() > axis and own.shape[axis] == len(relevance.output):
            found.append(tuple(each.detach().cpu().double().movedim(axis, 0).numpy() for each in (given, own)))
    with_any = [pair for pair in found if np.any(pair[1])] or found[:1]
    return with_any[:MOST_TENSORS]  # type: ignore[return-value]


def _is_picture(values: Array) -> bool:
    return values.ndim >= 3


def _draw_sample(
    room: SubFigure, relevance: Drawable, pairs: Sequence[tuple[Array, Array]], sample: int, tokens: Any
) -> None:
    widths = [each for given, _ in pairs for each in ((2.0, 2.2) if _is_picture(given) else (4.6,))]
    panels = list(room.subplots(1, len(widths) + 1, width_ratios=[*widths, 4.0], squeeze=False)[0])
    *places, last = panels
    for given, own in pairs:
        if _is_picture(given):
            _draw_picture(places.pop(0), places.pop(0), given[sample], own[sample])
        else:
            _draw_vector(places.pop(0), np.atleast_1d(own[sample]), tokens)
    _draw_bars(last, relevance, sample)


def _flat(values: Array) -> Array:
    """A picture's two last axes, summed over the others."""
    return values if values.ndim == 2 else values.reshape(-1, *values.shape[-2:]).sum(0)


def _draw_picture(left: Axes, right: Axes, given: Array, own: Array) -> None:
    colours = given.ndim == 3 and given.shape[0] == 3
    low, high = float(given.min()), float(given.max())
    scaled = (given - low) / ((high - low) or 1.0)
    grey = scaled.mean(0) if colours else _flat(scaled)
    aspect: Literal["equal", "auto"] = "equal" if max(grey.shape) <= 4 * min(grey.shape) else "auto"
    if colours:
        left.imshow(np.moveaxis(scaled, 0, -1), aspect=aspect)
    else:
        left.imshow(grey, cmap="gray", aspect=aspect)
    left.set_title("input", loc="left")
    heat = _flat(own)
    limit = float(np.quantile(np.abs(heat), CLIPPED)) or float(np.abs(heat).max()) or 1.0
    right.imshow(grey, cmap="Greys", alpha=0.3, aspect=aspect)
    strength = np.clip(1.5 * np.abs(heat) / limit, 0.0, 1.0)
    drawn = right.imshow(heat, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=strength, aspect=aspect)
    drawn.set_interpolation("nearest")
    right.set_title("relevance", loc="left")
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_anchor("NW")
    from matplotlib.cm import ScalarMappable

    legend = right.figure.colorbar(
        ScalarMappable(drawn.norm, drawn.cmap), ax=right, shrink=0.8, pad=0.02, anchor=(0.0, 1.0)
    )
    legend.set_ticks([-limit, 0, limit], labels=[f"{-limit:.2g}", "0", f"{limit:.2g}"])
    legend.outline.set_visible(False)


def _draw_vector(axes: Axes, own: Array, tokens: Any) -> None:
    """Bars over the entries of a vector; under them the tokens, where they are given."""
    places = range(len(own))
    if len(own) <= MOST_TOKENS:
        axes.bar(places, own, color=[_colour(value) for value in own], width=0.85)
    else:
        axes.stairs(np.where(own > 0, own, 0.0), fill=True, color=FOR, linewidth=0)
        axes.stairs(np.where(own < 0, own, 0.0), fill=True, color=AGAINST, linewidth=0)
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    if tokens is not None:
        if len(tokens) != len(own):
            raise DataError(f"There are {len(tokens)} tokens for {len(own)} entries; give one for each.")
        if len(own) <= MOST_TOKENS:
            labels = [plain(str(token), 14) for token in tokens]
            axes.set_xticks(places, labels, rotation=90, fontsize=min(8.0, 420 / len(own)), parse_math=False)
    axes.set_title("relevance of the inputs", loc="left")


def _colour(value: float) -> str:
    return FOR if value >= 0 else AGAINST


def _bars(relevance: Drawable, sample: int) -> list[tuple[str, float]]:
    """What the output is the sum of, the largest first; what is small is one bar."""
    found = relevance.contributions(sample)
    rest = float(relevance.residual[sample].detach())
    if abs(rest) > 1e-3 * sum(map(abs, found.values())):
        found["residual"] = rest
    inputs = found.pop("inputs")
    others = sorted(((name, value) for name, value in found.items() if value), key=lambda item: -abs(item[1]))
    if len(others) > MOST_BARS:
        kept, small = others[: MOST_BARS - 1], others[MOST_BARS - 1 :]
        others = [*kept, (f"{len(small)} others", math.fsum(value for _, value in small))]
    return [("inputs", inputs), *others]


def _draw_bars(axes: Axes, relevance: Drawable, sample: int) -> None:
    bars = _bars(relevance, sample)
    values = [value for _, value in bars]
    places = range(len(bars))
    axes.barh(places, values, color=[_colour(value) for value in values], height=0.68)
    widest = max(map(abs, values)) or 1.0
    for place, value in zip(places, values, strict=True):
        axes.text(
            value + math.copysign(0.02 * widest, value), place, f"{value:+.3g}", va="center",
            ha="left" if value >= 0 else "right", fontsize=8,
        )  # fmt: skip
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.3 * (high - low or 1.0)
    axes.set_xlim(low - (room if low < 0 else 0.0), high + room)
    axes.set_yticks(places, [plain(name, 30) for name, _ in bars], fontsize=8, parse_math=False)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.axvline(0.0, color=FAINT, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_title(_headline(relevance, sample), loc="left", color=INK, fontweight="bold", parse_math=False)


def _headline(relevance: Drawable, sample: int) -> str:
    number = f"{float(relevance.output[sample].detach()):.4g}"
    if relevance.target is None:
        return f"what makes up {number}"
    return f"what makes up output {int(relevance.target[sample])}: {number}"
