"""A checkpoint as one file: tensors as safetensors, all else as JSON in its header. Loading runs no code."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.errors import DataError, LoadError
from deadhead.files import write_together

FORMAT = 1


def save_checkpoint(path: Path, value: Any) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers and texts, exactly, with one rename: a process that is
    killed leaves the file of before, or the new one.

    Args:
        path: the file.
        value: what is written.

    Raises:
        DataError: where something else is in it.
        OSError: where the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(Path(folder, "at"), {"step": 3, "momentum": [torch.ones(2), None]})
        ...     load_checkpoint(Path(folder, "at"))
        {'step': 3, 'momentum': [tensor([1., 1.]), None]}
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps({"format": FORMAT, "value": _encode(value, tensors)}, allow_nan=False)
    write_together({path: safetensors.torch.save(tensors, {"deadhead": text})})


def load_checkpoint(path: Path) -> Any:
    """What `save_checkpoint` wrote, each tensor on the device that it was on.

    Raises:
        LoadError: where the file is damaged or of another format.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            head = json.loads(file.metadata()["deadhead"])
            if head["format"] != FORMAT:
                raise LoadError(f"{path} has format {head['format']}, this version of deadhead reads {FORMAT}.")
            return _decode(head["value"], {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, safetensors.SafetensorError) as error:
        raise LoadError(f"{path} is damaged: {error}; remove it, and start anew.") from error


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON; what JSON has no exact form for is a pair of its kind and its content."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return ["tensor", [name, str(value.device)]]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else ["float", str(value)]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_encode(each, tensors) for each in value]]
    if isinstance(value, Mapping):
        return ["dict", [[_encode(key, tensors), _encode(each, tensors)] for key, each in value.items()]]
    raise DataError(
        f"A {type(value).__name__} in the optimizer's state cannot be written to a checkpoint; recover without "
        "folder=, or with another optimizer."
    )


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        name, device = content
        # A tensor within the file may lie where vector instructions add in another order: in memory of its own it is
        # computed with to the same bits as before.
        return tensors[name].clone().to(device)
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {_decode(key, tensors): _decode(each, tensors) for key, each in content}
    items = [_decode(each, tensors) for each in content]
    return tuple(items) if kind == "tuple" else items


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module by name, tied ones once; those that are not saved with it, too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A copy of `tensors_of` a module."""
    return {name: tensor.detach().clone() for name, tensor in tensors_of(model).items()}


def put(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors into the parameters and buffers of their names."""
    own = tensors_of(model)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A text that differs where a name, or a bit, the type or the shape of a tensor differs."""
    sum_ = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors.items():
        sum_.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sum_.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sum_.hexdigest()


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimizer: for each of its parameters in their order, and the settings of its groups."""
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return {"state": [optimizer.state.get(parameter) for parameter in held], "groups": groups}


def put_optimizer_state(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Put a state of `optimizer_state` into an optimizer with the same parameters.

    `load_state_dict` would cast state to the type of its parameter; here every bit stays.
    """
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.state.clear()
    for parameter, state in zip(held, saved["state"], strict=True):
        if state is not None:
            optimizer.state[parameter] = state
    for group, settings in zip(optimizer.param_groups, saved["groups"], strict=True):
        group.update(settings)
