"""Tracing a module with torch.export, leaving it as it was."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from deadhead.errors import TraceError
from deadhead.graph.pytree import Structure, as_call, take

PREFIX = "module."
_NOT_THE_USERS = (
    str(Path(torch.__file__).parent), str(Path(__file__).parent.parent), str(Path(contextlib.__file__)), "<"
)  # fmt: skip


class Positional(nn.Module):
    """A module as a function from a tuple of tensors to a tuple of tensors.

    Args:
        module: the module.
        structure: the structure of its arguments.
        record: called with the structure of its output.
    """

    def __init__(self, module: nn.Module, structure: Structure, record: Callable[[Structure], None]) -> None:
        super().__init__()
        self.module = module
        self.structure = structure
        self.record = record

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        args, kwargs = self.structure.fill(tensors)
        outputs, structure = take(self.module(*args, **kwargs), opaque=True)
        self.record(structure)
        return tuple(outputs)


@contextlib.contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """A context in which a module runs in evaluation mode without gradients; its modes, attributes, buffers and the
    random numbers are restored at the end."""
    modules = list(module.modules())
    attributes = [dict(each.__dict__) for each in modules]
    tables = [(dict(each._parameters), dict(each._buffers), dict(each._modules)) for each in modules]
    buffers = [
        (buffer, buffer.clone()) for buffer in module.buffers() if not isinstance(buffer, nn.UninitializedBuffer)
    ]
    held = [(value, copy.copy(value)) for each in modules for value in _containers(each)]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[], enabled=True):
            torch.backends.mha.set_fastpath_enabled(False)
            for each in modules:
                each.training = False
            empty_caches(module)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for value, content in held:
            if isinstance(value, list):
                value[:] = content
            else:
                value.clear()
                value.update(content)
        for each, before, (parameters, registered, children) in zip(modules, attributes, tables, strict=True):
            each.__dict__.clear()
            each.__dict__.update(before)
            for table, saved in (
                (each._parameters, parameters),
                (each._buffers, registered),
                (each._modules, children),
            ):
                if _differ(table, saved):
                    table.clear()
                    table.update(saved)  # type: ignore[arg-type]
        with torch.no_grad():
            for buffer, before_it in buffers:
                if not torch.equal(buffer, before_it):
                    buffer.copy_(before_it)


def _containers(module: nn.Module) -> list[Any]:
    """The lists, sets and dicts that a module holds as attributes of its own."""
    return [value for name, value in vars(module).items() if name[0] != "_" and isinstance(value, (list, dict, set))]


def empty_caches(module: nn.Module) -> None:
    """Empty the dicts of tensors that are named as caches: they hold results of earlier weights or shapes."""
    for each in module.modules():
        for name, value in vars(each).items():
            if "cache" in name and isinstance(value, dict) and all(type(t) is Tensor for t in value.values()):
                value.clear()


def _differ(table: dict[str, Any], saved: dict[str, Any]) -> bool:
    return list(table) != list(saved) or any(table[key] is not saved[key] for key in saved)


def double(tensors: list[Tensor], axis: int) -> list[Tensor]:
    """Example inputs with at least two samples: export takes a size of one for fixed."""
    samples = batch_size(tensors, axis)
    if samples != 1:
        return tensors
    return [torch.cat([t, t], axis) if t.dim() > axis and t.shape[axis] == 1 else t for t in tensors]


def batch_size(tensors: list[Tensor], axis: int) -> int:
    """The size of the batch axis of the first tensor that has one."""
    return next((t.shape[axis] for t in tensors if t.dim() > axis), 1)


def has_rows(tensor: Tensor, axis: int, samples: int) -> bool:
    """Whether a tensor has the batch axis with so many samples."""
    return tensor.dim() > axis and tensor.shape[axis] == samples


def rows_of(tensors: list[Tensor], axis: int, index: Tensor) -> list[Tensor]:
    """The samples `index` of each tensor that has the batch axis; other tensors as they are."""
    samples = batch_size(tensors, axis)
    return [
        t.index_select(axis, index.to(t.device)) if t.dim() > axis and t.shape[axis] == samples else t for t in tensors
    ]


def trace_program(
    module: nn.Module, inputs: Any, batch_axis: int, free: Sequence[Collection[int]] | None
) -> tuple[ExportedProgram, Structure, list[Tensor]]:
    """Export a module as a function of tensors.

    Args:
        module: what is traced; it is left as it was.
        inputs: what it is called with.
        batch_axis: the axis of the inputs along which the samples lie.
        free: for each input tensor the axes whose sizes are free beside the batch axis; None fixes all sizes, the
            batch's too.

    Returns:
        The program, the structure of its output, and the tensors that it was traced with.

    Raises:
        TraceError: where the module cannot be exported, with the line that prevents it.
    """
    tensors, structure = take(as_call(inputs))
    if not tensors:
        raise TraceError("The example inputs hold no tensor; give the inputs that the model is called with.")
    _refuse(module)
    tensors = double(tensors, batch_axis)
    outputs: list[Structure] = []
    wrapper = Positional(module, structure, outputs.append)
    samples = batch_size(tensors, batch_axis)
    shapes = None
    if free is not None:
        shapes = (
            tuple(
                dict.fromkeys({*axes, *([batch_axis] if has_rows(t, batch_axis, samples) else [])}, Dim.AUTO)
                for t, axes in zip(tensors, free, strict=True)
            ),
        )
    with untouched(module):
        wrapper.training = False
        try:
            program = _export(wrapper, tuple(tensors), {}, shapes)
        except Exception as error:
            raise TraceError(_explain(error, module)) from error
    if not outputs or not outputs[-1].count:
        raise TraceError(
            f"{type(module).__name__} returns no tensor; deadhead needs a model whose output holds tensors."
        )
    return program, outputs[-1], tensors


def _export(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> ExportedProgram:
    """torch.export without its warnings and log lines; errors are raised as they are."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return _export_aloud(module, args, kwargs, shapes)
    finally:
        logging.disable(disabled)


def _export_aloud(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*assigned during export.*")
        return export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def export_as_is(module: nn.Module, inputs: Any, batch_axis: int) -> ExportedProgram:
    """Export a module under its own signature, with a free batch axis: the program runs without the class.

    Args:
        module: what is exported; it is left as it was.
        inputs: what it is called with.
        batch_axis: the axis of the inputs along which the samples lie.

    Raises:
        TraceError: where it cannot be exported so.
    """
    args, kwargs = as_call(inputs)
    tensors, structure = take((args, kwargs))
    tensors = double(tensors, batch_axis)
    samples = batch_size(tensors, batch_axis)
    free = [{batch_axis: Dim.AUTO} if t.dim() > batch_axis and t.shape[batch_axis] == samples else {} for t in tensors]
    args, kwargs = structure.fill(tensors)
    shapes_of_args, shapes_of_kwargs = structure.fill(free)  # type: ignore[arg-type]
    signature = inspect.signature(module.forward)
    try:
        shapes: Any = dict(signature.bind(*shapes_of_args, **shapes_of_kwargs).arguments)
    except (TypeError, ValueError):
        shapes = (*shapes_of_args, *shapes_of_kwargs.values())
    with untouched(module):
        try:
            return _export(module, args, kwargs, shapes)
        except Exception as error:
            raise TraceError(_explain(error, module)) from error


def _refuse(module: nn.Module) -> None:
    """Raise `TraceError` for a module that is TorchScript or quantized, or whose tensors have no values yet."""
    for path, each in module.named_modules():
        if isinstance(each, torch.jit.ScriptModule):
            name = f"{path} in {type(module).__name__}" if path else type(module).__name__
            raise TraceError(f"{name} is TorchScript, which cannot be traced; give the eager module.")
        if ".quantized." in type(each).__module__:
            raise TraceError(
                f"{path} in {type(module).__name__} is quantized; prune the model first and quantize the result."
            )
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta:
            raise TraceError(f"{name} lies on the meta device and has no values; load the weights first.")
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise TraceError(f"{name} is lazy and has no shape yet; run the model once on real inputs first.")


def _explain(error: BaseException, module: nn.Module) -> str:
    """What could not be traced, with the user's own line, and the reason, in one sentence."""
    place = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_NOT_THE_USERS):
            place = f' at {frame.filename}, line {frame.lineno}: "{frame.line}"'
            break
    message = str(error).strip().splitlines()
    reason = message[0] if message else type(error).__name__
    kind = type(error).__name__
    if "DataDependent" in kind or "data-dependent" in reason.lower():
        reason = "it decides by the values of a tensor (an if, a loop or an int() on one)"
    return f"{type(module).__name__} cannot be traced{place}: {kind}: {reason}"
