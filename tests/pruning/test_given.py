"""Models as people bring them: in half precision, compiled, wrapped, frozen, with hooks and parametrizations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.parametrizations as parametrizations
import torch.nn.utils.prune as masks
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.gates import Gates
from deadhead.graph.agreement import relative_difference
from support.quick import each_of
from support.snapshot import Unharmed


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4),
    ).eval()  # fmt: skip


def data(dtype: torch.dtype = torch.float32, rows: int = 32) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 3, 8, 8, generator=generator)
    return [(x.to(dtype), torch.randint(4, (rows,), generator=generator))]


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.net(x).float()


def with_weight_norm() -> nn.Module:
    model = net()
    parametrizations.weight_norm(model[3])
    return model


def with_old_weight_norm() -> nn.Module:
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model[3])
    return model


def with_spectral_norm() -> nn.Module:
    model = net()
    parametrizations.spectral_norm(model[3])
    return model.eval()


def with_masks() -> nn.Module:
    model = net()
    masks.l1_unstructured(model[3], "weight", 0.3)
    return model


def frozen() -> nn.Module:
    return net().requires_grad_(False)


def compiled_in_place() -> nn.Module:
    model = net()
    model.compile(backend="eager")
    return model


GIVEN: dict[str, tuple[Callable[[], nn.Module], torch.dtype, float]] = {
    "bfloat16": (lambda: net().bfloat16(), torch.bfloat16, 2e-2),
    "float16": (lambda: net().half(), torch.float16, 5e-3),
    "float64": (lambda: net().double(), torch.float64, 1e-12),
    "autocast": (Autocast, torch.float32, 2e-2),
    "torch.compile": (lambda: torch.compile(net(), backend="eager"), torch.float32, 1e-5),
    "compiled in place": (compiled_in_place, torch.float32, 1e-5),
    "DataParallel": (lambda: nn.DataParallel(net()), torch.float32, 1e-5),
    "frozen": (frozen, torch.float32, 1e-5),
    "weight norm": (with_weight_norm, torch.float32, 1e-5),
    "weight norm by hooks": (with_old_weight_norm, torch.float32, 1e-5),
    "spectral norm": (with_spectral_norm, torch.float32, 1e-5),
    "masks of torch.nn.utils.prune": (with_masks, torch.float32, 1e-5),
    "channels last": (lambda: net().to(memory_format=torch.channels_last), torch.float32, 1e-5),
}


FEW = ("bfloat16", "float64", "autocast", "compiled in place", "DataParallel", "frozen", "weight norm", "channels last")


@pytest.mark.parametrize("what", each_of(GIVEN, FEW))
def test_a_model_comes_back_smaller_in_the_state_in_which_it_was_given(what: str, unharmed: Unharmed) -> None:
    make, dtype, tolerance = GIVEN[what]
    model, batches = make(), data(dtype)
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with unharmed(model):
        pruned = dh.prune(model, batches, loss="cross_entropy", units=0.5, compensate="zero", criterion="magnitude")
    small = pruned.model
    assert type(small) is type(model)
    assert small.training == model.training
    assert {name: parameter.requires_grad for name, parameter in small.named_parameters()} == flags
    assert [p.dtype for p in small.parameters()] == [p.dtype for p in model.parameters()]
    assert pruned.report.after.parameters < pruned.report.before.parameters
    with torch.no_grad():
        zeroed = dh.trace(make(), batches[0][0])
        gates = Gates(zeroed, as_loss("cross_entropy"))
        batch = as_batch(batches[0])
        expected = gates.outputs(pruned.plan.alpha(zeroed.groups), batch)
        assert relative_difference(small(batches[0][0]), expected) <= tolerance
    losses = nn.functional.cross_entropy(small(batches[0][0]).float(), batches[0][1])
    if all(flags.values()):
        losses.backward()
        assert all(parameter.grad is not None for parameter in small.parameters())


def test_hooks_are_part_of_forward_and_stay(unharmed: Unharmed) -> None:
    model, calls = net(), []
    model[4].register_forward_hook(lambda module, args, output: (calls.append(1), 2 * output)[1])
    with unharmed(model):
        pruned = dh.prune(model, data(), loss="cross_entropy", units=0.5, compensate="zero")
    assert pruned.report.difference <= 1e-5
    calls.clear()
    found = pruned.model(data()[0][0])
    assert calls == [1]
    plain = pruned.model
    plain[4]._forward_hooks.clear()
    assert not torch.allclose(plain(data()[0][0]), found)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "meta": (lambda: net().to("meta"), "0.weight lies on the meta device"),
    "TorchScript": (lambda: torch.jit.trace(net(), data()[0][0]), "TorchScript"),
    "quantized": (
        lambda: torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}, dtype=torch.qint8),
        "7 in Sequential is quantized; prune the model first and quantize the result",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(2)), "0"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_pruned_is_refused_by_name(what: str) -> None:
    make, words = REFUSED[what]
    with pytest.raises(dh.TraceError, match=words):
        dh.prune(make(), data(), loss="cross_entropy", units=0.5)
