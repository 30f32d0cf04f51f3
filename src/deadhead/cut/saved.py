"""Saved results: weights as safetensors, the surgery and the report as JSON. Loading runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from deadhead.cut.surgery import Surgery, copy_of, operate
from deadhead.errors import CutError, LoadError
from deadhead.files import write_together

FORMAT = 1
WEIGHTS, RECIPE, REPORT = "weights.safetensors", "surgery.json", "report.json"


def save(folder: str | os.PathLike[str], model: nn.Module, surgery: Surgery, report: Mapping[str, Any]) -> Path:
    """Write a pruned model to a folder: `load` reads it back. All files, or none."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    recipe = {"format": FORMAT, "model": type(model).__qualname__, "surgery": surgery.to_json()}
    write_together(
        {
            path / WEIGHTS: safetensors.torch.save(weights_of(model)),
            path / REPORT: json.dumps(report, indent=1).encode(),
            path / RECIPE: json.dumps(recipe).encode(),
        }
    )
    return path


def load(folder: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """The pruned model saved in `folder`, made from an intact instance of its class, which is left as it is.

    The instance's weights do not matter, and it may lie on the meta device. Nothing in the folder is run.

    Raises `LoadError` where files are missing or damaged, or belong to another model.

    >>> import tempfile
    >>> import deadhead
    >>> def intact(): return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> data = [(torch.randn(32, 2), torch.randint(2, (32,)))]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = deadhead.pruning.prune(intact(), data, loss="cross_entropy", units=0.5).save(folder)
    ...     load(folder, intact())[0]
    Linear(in_features=2, out_features=4, bias=True)
    """
    path = Path(folder)
    try:
        recipe = json.loads((path / RECIPE).read_text())
        weights = safetensors.torch.load_file(path / WEIGHTS)
        if recipe["format"] != FORMAT:
            raise LoadError(f"{path} has format {recipe['format']}, this version of deadhead reads {FORMAT}.")
        surgery = Surgery.from_json(recipe["surgery"])
    except FileNotFoundError as error:
        raise LoadError(f"{path} holds no pruned model: {error.filename} is missing.") from error
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise LoadError(f"{path} is damaged: {error}; save the result again.") from error
    smaller = copy_of(model)
    try:
        operate(smaller, surgery)
    except (CutError, AttributeError) as error:
        raise LoadError(
            f"{path} was made from a {recipe['model']}, which does not fit this {type(model).__name__}: {error}"
        ) from error
    own: dict[str, Tensor] = {**dict(smaller.named_parameters()), **dict(smaller.named_buffers())}
    wrong = [n for n in {*own, *weights} if n not in own or n not in weights or own[n].shape != weights[n].shape]
    if wrong:
        raise LoadError(
            f"{path} was made from a {recipe['model']}, which does not fit this {type(model).__name__}: "
            f"{min(wrong)} differs."
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


def _materialise(module: nn.Module, target: Tensor, tensor: Tensor) -> None:
    """Put `tensor` wherever the meta tensor `target` stands, tied places included."""
    new = nn.Parameter(tensor, target.requires_grad) if isinstance(target, nn.Parameter) else tensor
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):
            for leaf, held in table.items():
                if held is target:
                    table[leaf] = new  # type: ignore[assignment]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module's state, tied ones once, contiguous, on the CPU."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return state
