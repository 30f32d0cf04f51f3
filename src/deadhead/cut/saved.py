"""Saved results: weights as safetensors, the surgery and the report as JSON. Loading runs no code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from deadhead.cut.surgery import Surgery, copy_of, operate, remember, surgery_behind
from deadhead.errors import CutError, LoadError
from deadhead.files import write_together

FORMAT = 1
WEIGHTS, RECIPE, REPORT = "weights.safetensors", "surgery.json", "report.json"
INTACT = "intact"
"""What a surgery begins with. Files without it begin with the model that was pruned, which may have been cut before."""


def save(folder: str | os.PathLike[str], model: nn.Module, surgery: Surgery, report: str) -> Path:
    """Write a pruned model to a folder, which `load` reads back: all files, or none.

    Args:
        folder: Where to write; made where it is missing.
        model: The pruned model.
        surgery: What makes an intact model of the same class as small.
        report: The text of `report.json`.

    Returns:
        The folder.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(folder)
    recipe = {"format": FORMAT, "model": type(model).__qualname__, "surgery": surgery.to_json(), "from": INTACT}
    write_together(
        {
            path / WEIGHTS: safetensors.torch.save(saved_tensors(model)),
            path / REPORT: report,
            path / RECIPE: json.dumps(recipe, allow_nan=False),
        }
    )
    return path


def load(folder: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Load the pruned model that `Pruned.save` wrote, given an intact instance of its class. Nothing in the folder is
    run.

    Args:
        folder: What was given to `Pruned.save`.
        model: An intact instance of the class, which is left as it is; its weights do not matter, and it may lie on the
            meta device. However often the model was pruned, one call leads from the intact instance to the result. An
            instance that was pruned on the way to it does as well.

    Returns:
        A pruned model with the saved weights.

    Raises:
        LoadError: Files are missing or damaged, or belong to another model.

    Example:
        >>> import tempfile
        >>> import deadhead
        >>> def intact(): return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> data = [(torch.randn(32, 2), torch.randint(2, (32,)))]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = deadhead.prune(intact(), data, loss="cross_entropy", units=0.5).save(folder)
        ...     load(folder, intact())[0]
        Linear(in_features=2, out_features=4, bias=True)
    """
    path = Path(folder)
    made_from, surgery, begins, weights = _read(path)
    smaller = copy_of(model)
    try:
        step = surgery.after(surgery_behind(model)) if begins == INTACT else surgery
        operate(smaller, step)
        remember(smaller, step)
    except (CutError, AttributeError) as error:
        raise LoadError(
            f"{path} was made from a {made_from}, which does not fit this {type(model).__name__}: {error}"
        ) from error
    own: dict[str, Tensor] = {**dict(smaller.named_parameters()), **dict(smaller.named_buffers())}
    wrong = [n for n in {*own, *weights} if n not in own or n not in weights or own[n].shape != weights[n].shape]
    if wrong:
        raise LoadError(
            f"{path} was made from a {made_from}, which does not fit this {type(model).__name__}: {min(wrong)} differs."
        )
    for name, tensor in weights.items():
        owner = smaller.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        target = own[name]
        if target.is_meta:
            _materialise(smaller, target, tensor)
        else:
            with torch.no_grad():
                getattr(owner, leaf).copy_(tensor)
    return smaller


def _read(path: Path) -> tuple[str, Surgery, str | None, dict[str, Tensor]]:
    """The name of the class that a saved model was made from, its surgery, what that begins with, and its weights."""
    try:
        recipe = json.loads((path / RECIPE).read_text())
        weights = safetensors.torch.load_file(path / WEIGHTS)
        if recipe["format"] != FORMAT:
            raise LoadError(f"{path} has format {recipe['format']}, this version of deadhead reads {FORMAT}.")
        return recipe["model"], Surgery.from_json(recipe["surgery"]), recipe.get("from"), weights
    except FileNotFoundError as error:
        raise LoadError(f"{path} holds no pruned model: {error.filename} is missing.") from error
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise LoadError(f"{path} is damaged: {error}; save the result again.") from error


def _materialise(module: nn.Module, target: Tensor, tensor: Tensor) -> None:
    """Put `tensor` wherever the meta tensor `target` stands, tied places included."""
    new = nn.Parameter(tensor, target.requires_grad) if isinstance(target, nn.Parameter) else tensor
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):
            for leaf, held in table.items():
                if held is target:
                    table[leaf] = new  # type: ignore[assignment]


def saved_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module's state, tied ones once, contiguous, on the CPU."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return state
