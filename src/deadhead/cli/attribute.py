"""`attribute`: images or samples of data in, heatmaps and what inputs and biases contribute out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

import deadhead as dh
from deadhead.cli.resolve import data_of, model_of
from deadhead.data.calibration import as_batch
from deadhead.errors import DataError, TraceError
from deadhead.files import write_together
from deadhead.graph.pytree import take
from deadhead.graph.trace import rows_of

MOST_COLUMNS = 6


@dataclass(frozen=True)
class Explained:
    """What is explained: `images`, read with `shape`, `mean` and `std`, or the first `count` samples of `data`; and the
    picture `baseline` that it is compared with."""

    images: Sequence[Path]
    data: str | None
    count: int
    baseline: Path | None = None
    shape: str | None = None
    mean: str | None = None
    std: str | None = None

    def __post_init__(self) -> None:
        if bool(self.images) == (self.data is not None):
            raise DataError("Give either --image, once for each picture, or --data.")
        if self.data is not None and (self.shape or self.mean or self.std):
            raise DataError("--shape, --mean and --std say how pictures are read; DATA gives its inputs as they are.")

    def inputs(self) -> Any:
        """The inputs of the model."""
        return self._read(self.images) if self.data is None else _first_rows(self.data, self.count)

    def options(self) -> dict[str, Any]:
        """The baseline, as `attribute` takes it."""
        return {} if self.baseline is None else {"baseline": self._read([self.baseline])}

    def _read(self, files: Sequence[Path]) -> Tensor:
        return read_images(files, self.shape, self.mean, self.std)


def show_relevance(
    model: str, explained: Explained, out: Path, *, target: int | None, method: str, trust: bool
) -> None:
    """Attribute the outputs for images, or for the first samples of data, and write the heatmaps."""
    if not out.absolute().parent.is_dir():
        raise DataError(f"--out {out}: the folder {out.parent} is not there.")
    module = model_of(model, trust)
    inputs = explained.inputs()
    try:
        with torch.no_grad():
            found = dh.attribute(module, inputs, target, method, **explained.options())
    except TraceError as error:
        if explained.data is not None or explained.shape is not None:
            raise
        sizes = ",".join(map(str, inputs.shape[1:]))
        raise DataError(f"{error} (the pictures have the shape {sizes}; --shape says which the model takes)") from error
    drawn = io.BytesIO()
    figure = found.heatmap(samples=range(min(len(found.output), explained.count)))
    known = figure.canvas.get_supported_filetypes()
    if out.suffix[1:].lower() not in known:
        raise DataError(f"--out {out} ends in no format that can be drawn; the formats are {', '.join(sorted(known))}.")
    figure.savefig(drawn, format=out.suffix[1:].lower(), dpi=150)
    write_together({out: drawn.getvalue()})
    named = [path.name for path in explained.images] or [f"sample {sample}" for sample in range(len(found.output))]
    _print(found, named, method)
    Console().print(Text(f"wrote {out}"))


def read_images(files: Sequence[Path], shape: str | None, mean: str | None, std: str | None) -> Tensor:
    """Pictures as (rows, channels, height, width), in 0..1, less `mean` and over `std`; `shape` converts them."""
    from PIL import Image, UnidentifiedImageError

    size = None if shape is None else _numbers(shape, "--shape", int)
    if size is not None and (len(size) != 3 or size[0] not in (1, 3) or min(size) < 1):
        raise DataError(f"--shape {shape!r} is not channels (1 or 3), height and width, as in 1,28,28.")
    found = []
    for path in files:
        try:
            with Image.open(path) as opened:
                grey = size[0] == 1 if size is not None else opened.mode in ("1", "L", "LA", "I", "I;16", "F")
                picture = opened.convert("L" if grey else "RGB")
        except FileNotFoundError:
            raise DataError(f"The picture {path} is not there.") from None
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"The picture {path} cannot be read: {error}.") from error
        if size is not None and picture.size != (size[2], size[1]):
            picture = picture.resize((size[2], size[1]), Image.Resampling.LANCZOS)
        values = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).float() / 255
        found.append(values.reshape(picture.height, picture.width, -1).permute(2, 0, 1))
    if len({each.shape for each in found}) > 1:
        raise DataError("The pictures differ in size or colours; --shape says which to give to the model.")
    pictures = torch.stack(found)
    for text, name, change in ((mean, "--mean", torch.sub), (std, "--std", torch.div)):
        if text is not None:
            values = torch.tensor(_numbers(text, name, float))
            if len(values) not in (1, pictures.shape[1]) or (name == "--std" and bool((values <= 0).any())):
                raise DataError(f"{name} {text!r} is not one number, or one for each of {pictures.shape[1]} channels.")
            pictures = change(pictures, values[:, None, None])
    return pictures


def _numbers(text: str, name: str, kind: type[Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        raise DataError(f"{name} {text!r} is not a list of numbers with commas.") from None


def _first_rows(data: str, rows: int) -> Any:
    for raw in data_of(data, "test"):
        tensors, structure = take(as_batch(raw).inputs)
        count = min(rows, tensors[0].shape[0])
        return structure.fill(rows_of(tensors, 0, torch.arange(count)))
    raise DataError(f"--data {data} holds no batches.")


def _print(found: dh.Relevance, names: Sequence[str], method: str) -> None:
    """A column for each of the first samples, a row for each thing that the output is the sum of."""
    parts = [found.contributions(sample) for sample in range(min(len(found.output), MOST_COLUMNS))]
    more = len(found.output) - len(parts)
    title = f"what the output is the sum of, by {method}" + (f" (the first {len(parts)})" if more else "")
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in names[: len(parts)]:
        table.add_column(Text(name), justify="right", overflow="fold")
    if found.target is not None:
        table.add_row("output", *(str(int(index)) for index in found.target[: len(parts)]))
    table.add_row("value", *(f"{float(value):.4g}" for value in found.output[: len(parts)]), end_section=True)
    biases = sorted(found.biases, key=lambda name: -sum(abs(part[name]) for part in parts))
    for name in ("inputs", *biases, "absorbed"):
        table.add_row(Text(name), *(f"{part[name]:+.4g}" for part in parts))
    table.add_row("residual", *(f"{float(value):+.1e}" for value in found.residual[: len(parts)]))
    Console().print(table)
