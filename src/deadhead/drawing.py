"""What all pictures share: colours, settings, and text that fits and that their font has glyphs for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT = "#2b7a78"
REMOVED = "#e07a3f"
PREDICTED = "#7a5ea8"
INK = "#22303a"
FAINT = "#8a969e"

SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
}
"""On top of Matplotlib's defaults; its own font, which is always there and whose glyphs are known."""


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure to draw on, with the settings in force; it belongs to no window.

    Args:
        width: Inches.
        height: Inches.
    """
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(["default", SETTINGS]):
        whole = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(whole)
        whole.get_layout_engine().set(h_pad=0.06, w_pad=0.08)  # type: ignore[union-attr, call-arg]
        yield whole


def plain(text: str, width: int) -> str:
    """`text` in at most `width` characters, with a question mark for each that the font may not have."""
    return shorten("".join(sign if sign.isprintable() and ord(sign) < 0x250 else "?" for sign in text), width)


def shorten(name: str, width: int) -> str:
    """`name` in at most `width` characters, shortened before its middle: the end of a path differs most.

    Example:
        >>> shorten("encoder.layers.11.mlp.dense", 15)
        'encod…mlp.dense'
    """
    if len(name) <= width:
        return name
    head = width // 3
    return f"{name[:head]}…{name[len(name) - (width - head - 1) :]}"
