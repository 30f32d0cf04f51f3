"""Surgery: what is the user's stays the user's, only smaller."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured

import deadhead as dh
from deadhead.cut.surgery import Surgery, copy_of, operate, pick
from support.networks import Flat, Residual, classes, mlp, unit_gain
from support.references import without
from support.snapshot import Unharmed, bits

DATA = classes(24, 2, 5, 5)
FAST: dict[str, Any] = {"loss": "cross_entropy", "criterion": "magnitude", "compensate": "zero", "units": 0.5}


def residual() -> nn.Module:
    return unit_gain(Residual())


def stays(pruned: dh.Pruned, group: str) -> list[int]:
    found = next(each for each in pruned.report.groups if each.name == group)
    return [k for k in range(found.units) if k not in found.removed]


@pytest.mark.parametrize("inplace", [False, True])
def test_every_tensor_keeps_the_entries_of_the_units_that_stay(inplace: bool) -> None:
    model = residual()
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    pruned = dh.prune(model, DATA, **FAST, inplace=inplace)
    stem, a1, b1 = (stays(pruned, name) for name in ("stem", "a1", "b1"))
    after = pruned.model.state_dict()
    rows = {"stem": stem, "a1": a1, "a2": stem, "b1": b1, "b2": stem, "norm": stem}
    columns = {"a1": stem, "a2": a1, "b1": stem, "b2": b1, "fc": stem}
    for name, old in before.items():
        layer = name.split(".")[0]
        expected = old
        if layer in rows and old.dim():
            expected = expected[rows[layer]]
        if layer in columns and old.dim() > 1:
            expected = expected[:, columns[layer]]
        assert bits(after[name]) == bits(expected), name
    assert (pruned.model is model) == inplace


def test_sizes_that_modules_state_are_right_afterwards() -> None:
    model = unit_gain(
        nn.Sequential(
            nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 8, 3, groups=8), nn.GroupNorm(4, 8),
            nn.Conv2d(8, 6, 3, groups=2), nn.InstanceNorm2d(6, affine=True), nn.ConvTranspose2d(6, 4, 2),
            nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(64, 6), nn.LayerNorm(6), nn.Linear(6, 3),
        )
    )  # fmt: skip
    pruned = dh.prune(model, classes(12, 2, 7, 7), **FAST).model
    for module in pruned.modules():
        match module:
            case nn.ConvTranspose2d():
                assert tuple(module.weight.shape[:2]) == (module.in_channels, module.out_channels // module.groups)
            case nn.Conv2d():
                assert tuple(module.weight.shape[:2]) == (module.out_channels, module.in_channels // module.groups)
            case nn.Linear():
                assert tuple(module.weight.shape) == (module.out_features, module.in_features)
            case nn.BatchNorm2d():
                assert len(module.weight) == len(module.running_mean) == module.num_features
            case nn.PReLU():
                assert len(module.weight) == module.num_parameters
            case nn.GroupNorm():
                assert len(module.weight) == module.num_channels == 2 * module.num_groups
            case nn.InstanceNorm2d() if module.affine:
                assert len(module.weight) == module.num_features
    assert pruned[8].num_features == pruned[7].out_channels, "a norm without tensors states its size too"
    assert pruned[3].groups == pruned[3].in_channels == pruned[0].out_channels == 4
    assert pruned[5].groups == 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.twin = nn.Linear(3, 6), nn.Linear(3, 6)
        self.twin.weight = self.first.weight
        self.alias = self.first
        self.last = nn.Linear(6, 2)
        self.register_buffer("scale", torch.rand(6))
        self.register_buffer("same", self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)) * self.scale + torch.sin(self.twin(x)) * self.same + self.alias(x))


@pytest.mark.parametrize("inplace", [False, True])
def test_what_was_one_tensor_stays_one_tensor(inplace: bool) -> None:
    model = unit_gain(Tied())
    model.same = model.scale
    pruned = dh.prune(model, classes(12, 3, count=2), **FAST, inplace=inplace).model
    assert pruned.twin.weight is pruned.first.weight
    assert pruned.alias is pruned.first
    assert pruned.same is pruned.scale
    assert pruned.first.weight.shape == (3, 3)
    assert pruned.scale.shape == (3,)


@pytest.mark.parametrize("inplace", [False, True])
def test_frozen_parameters_stay_frozen(inplace: bool) -> None:
    model = residual()
    for name in ("stem.weight", "a1.bias", "fc.weight"):
        model.get_parameter(name).requires_grad_(False)
    expected = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    pruned = dh.prune(model, DATA, **FAST, inplace=inplace).model
    assert {name: parameter.requires_grad for name, parameter in pruned.named_parameters()} == expected


def test_a_new_bias_is_frozen_as_the_weight_beside_it() -> None:
    model = unit_gain(nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 3, bias=False)))
    model[2].weight.requires_grad_(False)
    pruned = dh.prune(model, classes(40, 2), **{**FAST, "compensate": "mean"}).model
    assert pruned[2].bias is not None
    assert not pruned[2].bias.requires_grad
    assert pruned[2].bias.dtype == torch.float64


def test_in_place_parameters_stay_the_same_objects_with_gradients_of_the_new_shape() -> None:
    model = residual()
    F.cross_entropy(model(DATA[0][0]), DATA[0][1]).backward()
    objects = {name: id(parameter) for name, parameter in model.named_parameters()}
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    pruned = dh.prune(model, DATA, **FAST, inplace=True)
    assert pruned.model is model
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == objects
    stem, a1 = stays(pruned, "stem"), stays(pruned, "a1")
    assert torch.equal(model.a1.weight.grad, gradients["a1.weight"][a1][:, stem])
    assert torch.equal(model.norm.bias.grad, gradients["norm.bias"][stem])
    assert torch.equal(model.fc.bias.grad, gradients["fc.bias"])
    for parameter in model.parameters():
        assert parameter.grad.shape == parameter.shape


@pytest.mark.parametrize("held", [False, True], ids=["", "last loss held"])
@pytest.mark.parametrize("hooked", [False, True], ids=["", "hooked"])
def test_a_model_cut_in_place_trains_on(hooked: bool, held: bool) -> None:
    model = residual().train()
    calls = []
    if hooked:
        model.a1.weight.register_hook(lambda gradient: calls.append(gradient.shape))
    loss = F.cross_entropy(model(DATA[0][0]), DATA[0][1])
    loss.backward()
    if not held:
        del loss
    dh.prune(model, DATA, **FAST, inplace=True)
    model.zero_grad()
    F.cross_entropy(model(DATA[0][0]), DATA[0][1]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.shape == parameter.shape, name
        assert parameter.grad.abs().sum() > 0, name
    if hooked:
        assert calls[-1] == model.a1.weight.shape


@pytest.mark.parametrize("inplace", [False, True])
def test_hooks_and_attributes_stay(inplace: bool) -> None:
    model = residual()
    seen: list[tuple[int, ...]] = []

    class Note:
        def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
            seen.append(tuple(output.shape))

    model.a1.register_forward_hook(Note())
    model.note = {"by": "me"}
    pruned = dh.prune(model, DATA, **FAST, inplace=inplace).model
    seen.clear()
    pruned(DATA[0][0])
    assert pruned.note == {"by": "me"}
    assert len(pruned.a1._forward_hooks) == 1
    if inplace:
        assert seen == [(24, 2, 5, 5)]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_result_is_in_the_mode_and_type_of_the_model(mode: bool, inplace: bool) -> None:
    model = residual().float().train(mode)
    model.norm.train(not mode)
    data = [(DATA[0][0].float(), DATA[0][1])]
    pruned = dh.prune(model, data, **{**FAST, "compensate": "least_squares"}, inplace=inplace).model
    assert [module.training for module in pruned.modules()] == [module.training for module in residual_modes(mode)]
    assert all(tensor.dtype == torch.float32 for tensor in pruned.parameters())


def residual_modes(mode: bool) -> list[nn.Module]:
    model = residual().train(mode)
    model.norm.train(not mode)
    return list(model.modules())


def test_the_copy_shares_nothing_with_the_original() -> None:
    model = residual()
    pruned = dh.prune(model, DATA, **FAST).model
    ours = {tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    assert not ours & {tensor.data_ptr() for tensor in [*pruned.parameters(), *pruned.buffers()]}
    assert type(pruned) is type(model)


# -- copies ----------------------------------------------------------------------------------------------------------


class Stores(nn.Module):
    """Keeps activations with a history: in an attribute, a list and a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 3)
        self.plain: Any = None
        self.several: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        self.plain = hidden
        self.several = {"list": [2 * hidden], "tuple": (hidden.sin(),)}
        return self.last(hidden)


def test_a_model_that_holds_tensors_with_a_history_is_copied_without_it(unharmed: Unharmed) -> None:
    model = unit_gain(Stores())
    data = classes(12, 3)
    model(data[0][0])
    with unharmed(model):
        pruned = dh.prune(model, data, **FAST)
    assert pruned.model.first.out_features == 3


@pytest.mark.parametrize("how", ["weight_norm", "parametrized", "pruned", "spectral"])
def test_weights_that_are_computed_from_others_are_cut_rightly_or_left_alone(how: str, unharmed: Unharmed) -> None:
    model = mlp(3, 8, 6, 3)
    if how == "weight_norm":
        nn.utils.weight_norm(model[2])
    elif how == "parametrized":
        nn.utils.parametrizations.weight_norm(model[2])
    elif how == "pruned":
        l1_unstructured(model[2], "weight", 0.3)
    else:
        nn.utils.parametrizations.spectral_norm(model[2])
    data = classes(12, 3)
    model(data[0][0])
    with unharmed(model):
        try:
            pruned = dh.prune(model, data, **FAST)
        except dh.CutError as error:
            assert "Nothing in" in str(error)  # noqa: PT017
            return
    assert pruned.report.difference <= 1e-10
    removed = {"0": "2", "2": "4"}
    columns = {removed[g.name]: g.removed for g in pruned.report.groups if g.name in removed}
    new = torch.randn(7, 3).double()
    torch.testing.assert_close(pruned.model(new), without(model, columns, new), rtol=1e-10, atol=1e-11)


# -- as data ---------------------------------------------------------------------------------------------------------


def test_surgery_is_json_and_back() -> None:
    import json

    surgery = Surgery(
        {"a.weight": {0: [0, 2], 1: [1]}}, [("a", "out_features", 2), ("n", "normalized_shape", (3,))], {"a.bias": 2}
    )
    assert Surgery.from_json(json.loads(json.dumps(surgery.to_json()))) == surgery


def test_picking_follows_each_axis_and_gives_whole_memory() -> None:
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    found = pick(tensor, {2: [3, 0], 1: [1]})
    assert torch.equal(found, tensor[:, [1]][:, :, [3, 0]])
    assert found.is_contiguous()


@pytest.mark.parametrize(
    "keep",
    [
        {"0.weight": {0: [99]}},
        {"nothing": {0: [0]}},
        {"0.weight": {5: [0]}},
        {"9.w": {0: [0]}},
    ],
    ids=str,
)
def test_surgery_for_another_model_is_refused(keep: dict[str, dict[int, list[int]]]) -> None:
    with pytest.raises((dh.CutError, AttributeError)):
        operate(mlp(3, 5, 2), Surgery(keep))


def test_a_copy_is_deep_and_the_original_keeps_its_history() -> None:
    model = unit_gain(Stores())
    model.forward = None  # type: ignore[method-assign, assignment]
    del model.forward
    model.plain = (model.first.weight * 2).sum()
    other = copy_of(model)
    assert model.plain.grad_fn is not None
    assert other.plain.grad_fn is None
    assert torch.equal(other.plain, model.plain)
    assert other.first.weight is not model.first.weight
    assert copy.deepcopy(model.first) is not None


def test_flattened_channels_lose_all_their_columns() -> None:
    model = unit_gain(Flat())
    pruned = dh.prune(model, classes(24, 2, 6, 6, count=4), **FAST)
    kept = stays(pruned, "conv2")
    columns = [4 * k + position for k in kept for position in range(4)]
    assert torch.equal(pruned.model.fc1.weight, model.fc1.weight[stays(pruned, "fc1")][:, columns])


@pytest.mark.parametrize(("order", "axes"), [(torch.channels_last, 4), (torch.channels_last_3d, 5)], ids=["2d", "3d"])
def test_what_lies_channels_last_still_does(order: torch.memory_format, axes: int) -> None:
    """Convolutions and pools of a network in that format are several times slower in the other."""
    weight = torch.randn(6, 4, 3, *[3] * (axes - 3))
    kept = {0: [0, 2, 5], 1: [1, 3]}
    picked = pick(weight.contiguous(memory_format=order), kept)
    assert picked.is_contiguous(memory_format=order)
    assert not picked.is_contiguous()
    assert pick(weight, kept).is_contiguous()
    torch.testing.assert_close(picked, weight[[0, 2, 5]][:, [1, 3]], rtol=0, atol=0)
