"""Arguments of the command line as models, data and losses."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deadhead.errors import BudgetError, DataError, DeadheadError
from deadhead.lab.data import load as load_split
from deadhead.progress import Progress

BATCH = 256


def named_object(name: str, what: str) -> Any:
    """The object that `package.module:attribute` names, with the current folder searched first."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise DeadheadError(f"{what} {name!r} is not of the form package.module:factory.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise DeadheadError(f"{what} {name!r}: the module {module_name} cannot be imported: {error}.") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = ", ".join(sorted(n for n in vars(found) if not n.startswith("_"))[:20])
            raise DeadheadError(f"{what} {name!r}: {module_name} has no {part}; it has {names}.")
        found = getattr(found, part)
    return found


def model_of(name: str, trust: bool = False) -> nn.Module:
    """The model that MODEL names: a factory's, or the program in a .pt2 file where the caller trusts it."""
    if name.endswith(".pt2"):
        return _program(Path(name), trust)
    if name.endswith((".pt", ".pth", ".bin")):
        raise DeadheadError(
            f"MODEL {name!r} holds weights without a class; give package.module:factory that builds and loads it."
        )
    found = named_object(name, "MODEL")
    model = found if isinstance(found, nn.Module) else found()
    if not isinstance(model, nn.Module):
        raise DeadheadError(f"MODEL {name!r} gave a {type(model).__name__}, not a torch.nn.Module.")
    return model


def _program(path: Path, trust: bool) -> nn.Module:
    if not path.is_file():
        raise DeadheadError(f"MODEL {str(path)!r} does not exist.")
    if not trust:
        raise DeadheadError(
            f"MODEL {str(path)!r} is read by torch.export.load, which can run code that the file holds; if you trust "
            "where it comes from, give --trust."
        )
    try:
        return torch.export.load(path).module()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DeadheadError(f"MODEL {str(path)!r} is no program that torch.export can load: {reason}.") from error


def data_of(name: str, part: str = "train", progress: Progress | None = None) -> Iterable[Any]:
    """The batches that DATA names: a factory's, or the `part` (train, test) of a built-in data set."""
    if ":" not in name:
        split = load_split(name) if progress is None else load_split(name, progress=progress)
        inputs, targets = (
            (split.train_inputs, split.train_targets) if part == "train" else (split.test_inputs, split.test_targets)
        )
        return batches(inputs, targets)
    found = named_object(name, "DATA")
    given = found() if callable(found) else found
    if not isinstance(given, Iterable):
        raise DataError(f"DATA {name!r} gave a {type(given).__name__}, not an iterable of batches.")
    return given


def batches(inputs: torch.Tensor, targets: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Samples in batches of `BATCH`."""
    return list(zip(torch.split(inputs, BATCH), torch.split(targets, BATCH), strict=True))


def loss_of(name: str) -> Any:
    """A loss by name, or the function that package.module:function names."""
    return named_object(name, "--loss") if ":" in name else name


def example_of(shape: str) -> torch.Tensor:
    """An example input of the shape given as numbers with commas."""
    try:
        sizes = [int(part) for part in shape.replace("x", ",").split(",")]
    except ValueError:
        raise DeadheadError(f"--shape {shape!r} is not a list of sizes such as 1,3,224,224.") from None
    if min(sizes) < 1:
        raise DeadheadError(f"--shape {shape!r} has a size below 1.")
    return torch.randn(sizes)


def amount(text: str | None, name: str) -> float | int | None:
    """A budget from the command line: with a point a fraction, without one a count."""
    if text is None:
        return None
    try:
        return float(text) if any(c in text for c in ".eE") else int(text)
    except ValueError:
        raise BudgetError(
            f"{name} {text!r} is not a number: give a fraction such as 0.5, or a count such as 32."
        ) from None


def settings(given: Sequence[str], option: str) -> dict[str, Any]:
    """{name: value} of settings written as name=value, values read as JSON where they are, else as text.

    Raises:
        DeadheadError: where one is not of that form.

    >>> settings(["steps=20", "reference=mean", "absolute=true"], "--set")
    {'steps': 20, 'reference': 'mean', 'absolute': True}
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DeadheadError(f"{option} {text!r} is not of the form name=value, as in factor=5.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def folder_for(out: Path) -> Path:
    """The output folder, refused before any work where a file stands in its place."""
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise DeadheadError(f"--out {out}: {place} is a file, not a folder.")
    return out
