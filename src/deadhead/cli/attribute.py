"""`attribute`: images or samples of data in, heatmaps and what inputs and biases contribute out."""

from __future__ import annotations

import io
from collections.abc import Sequence
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
from deadhead.relevance import METHODS

MOST_COLUMNS = 6


def show_relevance(
    model: str,
    out: Path,
    *,
    images: Sequence[Path],
    data: str | None,
    rows: int,
    target: int | None,
    method: str,
    baseline: Path | None,
    shape: str | None,
    mean: str | None,
    std: str | None,
    trust: bool,
) -> None:
    """Attribute the outputs for images, or for the first samples of data, and write the heatmaps."""
    if bool(images) == (data is not None):
        raise DataError("Give either --image, once for each picture, or --data.")
    if data is not None and (shape or mean or std):
        raise DataError("--shape, --mean and --std say how pictures are read; DATA gives its inputs as they are.")
    if not out.absolute().parent.is_dir():
        raise DataError(f"--out {out}: the folder {out.parent} is not there.")
    module = model_of(model, trust)

    def read(files: Sequence[Path]) -> Tensor:
        return read_images(files, shape, mean, std)

    inputs = read(images) if data is None else _first_rows(data, rows)
    given: dict[str, Any] = {} if baseline is None else {"baseline": read([baseline])}
    try:
        with torch.no_grad():
            found = dh.attribute(module, inputs, target, method, **given)
    except TraceError as error:
        if data is not None or shape is not None:
            raise
        sizes = ",".join(map(str, inputs.shape[1:]))
        raise DataError(f"{error} (the pictures have the shape {sizes}; --shape says which the model takes)") from error
    drawn = io.BytesIO()
    figure = found.heatmap(samples=range(min(len(found.output), rows)))
    known = figure.canvas.get_supported_filetypes()
    if out.suffix[1:].lower() not in known:
        raise DataError(f"--out {out} ends in no format that can be drawn; the formats are {', '.join(sorted(known))}.")
    figure.savefig(drawn, format=out.suffix[1:].lower(), dpi=150)
    write_together({out: drawn.getvalue()})
    _print(found, [path.name for path in images] or [f"sample {sample}" for sample in range(len(found.output))], method)
    Console().print(Text(f"wrote {out}"))


def list_methods() -> None:
    """Print the attribution methods with their options and what each computes."""
    table = Table("method", "options", "what it computes")
    for name in sorted(METHODS):
        entry = METHODS[name]
        options = ", ".join(f"{option}={default!r}" for option, default in entry.options.items())
        table.add_row(Text(name), Text(options), Text(entry.summary))
    Console().print(table)


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
