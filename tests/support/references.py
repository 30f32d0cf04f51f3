"""References that know nothing of the library: plain forward passes with hooks, plain loops, dense algebra."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Edit = Callable[[Tensor], Tensor]
Data = Sequence[tuple[Tensor, Tensor]]


@contextmanager
def reading(model: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """`model` whose modules named in `edits` read an edited input."""
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, edit=edit: (edit(args[0]), *args[1:]))
        for name, edit in edits.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def axis_of(module: nn.Module) -> int:
    """The channel axis of what a module reads."""
    return 1 if isinstance(module, nn.modules.conv._ConvNd) else -1


def replaced(axis: int, columns: Sequence[int], by: Tensor | float = 0.0) -> Edit:
    """An edit that replaces columns along an axis by a constant (or one for each column)."""

    def edit(value: Tensor) -> Tensor:
        value = value.movedim(axis, -1).clone()
        value[..., list(columns)] = by if isinstance(by, float) else by.to(value)
        return value.movedim(-1, axis)

    return edit


def without(model: nn.Module, columns: Mapping[str, Sequence[int]], *inputs: Tensor) -> Tensor:
    """The model's output with those input columns of those modules at zero, in evaluation mode."""
    edits = {name: replaced(axis_of(model.get_submodule(name)), which) for name, which in columns.items()}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), reading(model, edits):
            return model(*inputs)
    finally:
        for module, mode in modes:
            module.training = mode


def inputs_of(model: nn.Module, name: str, data: Data) -> list[Tensor]:
    """What the module `name` reads on each batch, in evaluation mode."""
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    model.eval()
    with torch.no_grad():
        for inputs, _ in data:
            model(inputs)
    handle.remove()
    return seen


def mean_of(model: nn.Module, name: str, data: Data) -> Tensor:
    """The mean of each input column of a module over samples and positions."""
    axis = axis_of(model.get_submodule(name))
    return torch.cat([value.movedim(axis, -1).flatten(0, -2) for value in inputs_of(model, name, data)]).mean(0)


def losses(model: nn.Module, data: Data, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The loss of every row, each row run by itself."""
    model.eval()
    with torch.no_grad():
        return torch.stack([loss(model(x[n : n + 1]), y[n : n + 1]).squeeze() for x, y in data for n in range(len(x))])


def loss_changes(
    model: nn.Module, edits: Mapping[str, Edit], data: Data, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """By how much each row's loss changes when modules read an edited input."""
    intact = losses(model, data, loss)
    with reading(model, edits):
        return losses(model, data, loss) - intact


def gate_gradients(
    model: nn.Module,
    columns: Mapping[str, Sequence[int]],
    references: Mapping[str, Tensor],
    data: Data,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """`dL_n/dalpha` at alpha = 1 for each row n, by autograd through a gate r + alpha (a - r) written out here."""
    model.eval()
    found = []
    for inputs, targets in data:
        for n in range(len(inputs)):
            alpha = torch.ones((), dtype=inputs.dtype, requires_grad=True)

            def gate(name: str, alpha: Tensor = alpha) -> Edit:
                axis = axis_of(model.get_submodule(name))
                which = torch.tensor(list(columns[name]))

                def edit(value: Tensor) -> Tensor:
                    value = value.movedim(axis, -1)
                    at = references[name].to(value)[which]
                    value = value.index_copy(-1, which, at + alpha * (value[..., which] - at))
                    return value.movedim(-1, axis)

                return edit

            with torch.enable_grad(), reading(model, {name: gate(name) for name in columns}):
                value = loss(model(inputs[n : n + 1]), targets[n : n + 1]).squeeze()
                found.append(torch.autograd.grad(value, alpha)[0])
    return torch.stack(found)


def unfolded(conv: nn.Module, value: Tensor) -> Tensor:
    """The columns that each group of a convolution reads, (groups, rows and positions, channels times taps), found by
    asking the convolution itself: one filter for each tap, a one at that tap."""
    kernel = conv.weight.shape[2:]
    per_group = conv.weight.shape[1]
    taps = int(torch.tensor(kernel).prod())
    one = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[value.dim()]
    columns = []
    for channel in range(value.shape[1]):
        eye = torch.eye(taps, dtype=value.dtype).reshape(taps, 1, *kernel)
        out = one(value[:, channel : channel + 1], eye, None, conv.stride, conv.padding, conv.dilation)
        columns.append(out.movedim(1, -1).reshape(-1, taps))
    return torch.stack(
        [torch.cat(columns[g * per_group : (g + 1) * per_group], 1) for g in range(value.shape[1] // per_group)]
    )


def columns_of(module: nn.Module, value: Tensor) -> Tensor:
    """What a linear layer or a convolution reads as columns, (groups, rows and positions, n)."""
    return unfolded(module, value) if value.dim() > 2 and hasattr(module, "kernel_size") else value.flatten(0, -2)[None]


def laid_out(module: nn.Module) -> Tensor:
    """The weight of such a module as (groups, outputs, n)."""
    groups = getattr(module, "groups", 1)
    weight = module.weight.detach()
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def ridge(
    columns: Tensor,
    wanted: Tensor,
    kept: Sequence[int],
    prior: Tensor,
    damping: float,
    constant: bool,
    scale: Tensor | None = None,
) -> Tensor:
    """The weights (outputs, n + 1) that give `wanted` (rows, outputs) from the kept `columns` (rows, n) and a one,
    pulled towards `prior` (outputs, n) by `damping` times `scale`, else the mean square of the columns: one stacked
    least-squares system for torch.linalg.lstsq. The last column is the constant, which nothing pulls; others stay 0."""
    rows, n = columns.shape
    which = [*kept, *([n] if constant else [])]
    wide = torch.cat([columns, columns.new_ones(rows, 1)], 1)[:, which] / rows**0.5
    pull = (damping * (columns.square().mean() if scale is None else scale)).sqrt()
    ridge_rows = pull * torch.eye(len(which), dtype=columns.dtype)[: len(kept)]
    right = torch.cat([wanted / rows**0.5, pull * prior[:, list(kept)].T])
    solution = torch.linalg.lstsq(torch.cat([wide, ridge_rows]), right, driver="gelsd").solution
    result = columns.new_zeros(wanted.shape[1], n + 1)
    result[:, which] = solution.T
    return result


def least_squares(
    model: nn.Module,
    dead: Mapping[str, Sequence[int]],
    fit: Data,
    held_out: Data,
    damping: Sequence[float],
    front_to_back: bool = True,
) -> nn.Module:
    """A copy of `model` whose consumers do without their `dead` input channels: front to back (the order of `dead`),
    each is regressed on what it reads in the copy so far (else in `model`, without the dead channels), towards what it
    gave in `model`. The damping with the least error on the held-out rows is taken."""
    smaller = copy.deepcopy(model)
    reads = smaller if front_to_back else model
    for name, channels in dead.items():
        module, old = smaller.get_submodule(name), model.get_submodule(name)
        weight = laid_out(old)
        taps = weight.shape[2] // old.weight.shape[1]

        def problem(data: Data, name: str = name, old: nn.Module = old, weight: Tensor = weight) -> list[Tensor]:
            before = torch.cat([columns_of(old, value) for value in inputs_of(model, name, data)], 1)
            after = torch.cat([columns_of(old, value) for value in inputs_of(reads, name, data)], 1)
            return [after, before @ weight.transpose(1, 2)]

        gone = [channel * taps + tap for channel in channels for tap in range(taps)]
        kept = [column for column in range(weight.shape[2]) if column not in gone]
        known, check = problem(fit), problem(held_out)
        scales = [None if front_to_back else part.square().mean() for part in known[0]]
        for part in (known, check):
            part[0] = part[0].clone()
            part[0][..., gone] = 0.0
        found = []
        for amount in damping:
            tried = torch.stack(
                [ridge(known[0][g], known[1][g], kept, weight[g], amount, True, scales[g]) for g in range(len(weight))]
            )
            made = check[0] @ tried[..., :-1].transpose(1, 2) + tried[..., -1][:, None]
            found.append((float((made - check[1]).square().sum()), tried))
        best = min(found, key=lambda pair: pair[0])[1]
        with torch.no_grad():
            module.weight.copy_(best[..., :-1].reshape(module.weight.shape))
            if module.bias is None:
                module.bias = nn.Parameter(best[..., -1].flatten().clone())
            else:
                module.bias.add_(best[..., -1].flatten())
    return smaller


def accuracy(model: nn.Module, data: Data) -> float:
    """The share of samples whose largest output is their class."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(inputs).argmax(1) == targets).sum()) for inputs, targets in data)
    return right / sum(len(targets) for _, targets in data)


def entropy(model: nn.Module, data: Data) -> float:
    """The mean cross-entropy over the samples."""
    model.eval()
    with torch.no_grad():
        total = sum(float(F.cross_entropy(model(inputs), targets, reduction="sum")) for inputs, targets in data)
    return total / sum(len(targets) for _, targets in data)
