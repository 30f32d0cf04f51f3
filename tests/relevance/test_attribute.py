"""The face of attribution: targets, containers, names, errors, and a model that nobody touches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.relevance import METHODS, named_composite
from deadhead.relevance import composite as register_composite
from deadhead.relevance.rules import Epsilon, Gradient, WSquare
from support.networks import Flat, Residual, mlp, unit_gain
from support.snapshot import Unharmed

CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_model_is_left_alone_and_a_second_call_is_the_same(method: str, unharmed: Unharmed) -> None:
    model = unit_gain(Flat()).train()
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    with unharmed(model):
        first = dh.attribute(model, x, 1, method)
        second = dh.attribute(model, x, 1, method)
    assert torch.equal(first.inputs, second.inputs)
    assert all(torch.equal(first.biases[name], second.biases[name]) for name in first.biases)
    assert first.inputs.shape == x.shape
    assert not x.requires_grad


class NoBias(nn.Module):
    """ReLU, leaky ReLU, max and average pools and a skip, without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.fc = nn.Linear(16, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.a(x)), 2)
        x = F.leaky_relu(self.b(x), 0.2) + x
        return self.fc(F.avg_pool2d(x, 2).flatten(1))


@pytest.mark.parametrize("method", ["lrp", "blame_bias", "gradient_x_input"])
def test_lrp_without_biases_is_gradient_times_input(method: str) -> None:
    model = unit_gain(NoBias())
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[:, 2].sum(), x)
    found = dh.attribute(model, x.detach(), 2, method)
    torch.testing.assert_close(found.inputs, (gradient * x).detach(), **CLOSE)


def test_gradient_is_the_gradient_whatever_the_network() -> None:
    for model, shape in ((unit_gain(Flat()), (3, 2, 6, 6)), (unit_gain(Residual()), (3, 2, 5, 5))):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
        torch.testing.assert_close(dh.attribute(model, x.detach(), 0, "gradient").inputs, gradient, **CLOSE)


def test_deconvnet_and_guided_by_hand() -> None:
    model = mlp(4, 6, 5, 3, activation=nn.ReLU)
    x = torch.randn(2, 4, dtype=torch.float64)
    weights = [model[i].weight.detach() for i in (0, 2, 4)]
    before = [model[:1](x), model[:3](x)]
    for method in ("deconvnet", "guided"):
        r = weights[2][1].expand(2, -1)
        for place in (1, 0):
            r = r.clamp(min=0) * (1 if method == "deconvnet" else (before[place] > 0))
            r = r @ weights[place]
        torch.testing.assert_close(dh.attribute(model, x, 1, method).inputs, r.detach(), **CLOSE)


def test_lrp_by_hand_with_biases_outside_of_the_denominators() -> None:
    model = mlp(4, 6, 3, activation=nn.ReLU)
    x = torch.randn(3, 4, dtype=torch.float64)
    w1, b1, w2, b2 = (each.detach() for each in model.parameters())
    hidden = x @ w1.T + b1
    output = hidden.relu() @ w2.T + b2
    at_hidden = hidden.relu() * w2[1] * (output[:, 1] / (output[:, 1] - b2[1]))[:, None]
    expected = x * ((at_hidden / (hidden - b1)) @ w1)
    torch.testing.assert_close(dh.attribute(model, x, 1, "lrp").inputs, expected, **CLOSE)


@pytest.mark.parametrize("maximum", ["soft", "fold"])
def test_baseline_is_symmetric_in_the_two_inputs(maximum: str) -> None:
    for model, shape in ((unit_gain(Flat()), (3, 2, 6, 6)), (unit_gain(Residual()), (3, 2, 5, 5))):
        x, other = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
        there = dh.attribute(model, x, 1, "baseline", baseline=other, maximum=maximum)
        back = dh.attribute(model, other, 1, "baseline", baseline=x, maximum=maximum)
        torch.testing.assert_close(there.inputs, -back.inputs, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(there.output, (model(x) - model(other))[:, 1].detach(), **CLOSE)


def test_baseline_is_symmetric_through_attention() -> None:
    class Attends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x.flip(1), x).mean(1)

    x, other = (torch.randn(3, 4, 5, dtype=torch.float64) for _ in range(2))
    there = dh.attribute(Attends(), x, 1, "baseline", baseline=other)
    back = dh.attribute(Attends(), other, 1, "baseline", baseline=x)
    torch.testing.assert_close(there.inputs, -back.inputs, **CLOSE)
    torch.testing.assert_close(there.absorbed, -back.absorbed, **CLOSE)
    assert there.residual.abs().max() < 1e-12


def test_baselines_blank_given_and_the_mean_of_data() -> None:
    model = unit_gain(Flat())
    x, data = torch.randn(3, 2, 6, 6, dtype=torch.float64), torch.randn(8, 2, 6, 6, dtype=torch.float64)
    blank = dh.attribute(model, x, 1, "baseline")
    torch.testing.assert_close(blank.inputs, dh.attribute(model, x, 1, "baseline", baseline=0 * x[:1]).inputs, **CLOSE)
    mean = dh.attribute(model, x, 1, "baseline", baseline=[data[:3], data[3:]])
    given = dh.attribute(model, x, 1, "baseline", baseline=data.mean(0, keepdim=True))
    torch.testing.assert_close(mean.inputs, given.inputs, **CLOSE)
    assert (mean.inputs - blank.inputs).abs().max() > 1e-3
    with pytest.raises(dh.RelevanceError, match=r"baseline has shape \(3, 2\)"):
        dh.attribute(model, x, 1, "baseline", baseline=torch.zeros(3, 2))
    with pytest.raises(dh.RelevanceError, match="compares with no baseline"):
        dh.attribute(model, x, 1, "lrp", baseline=x)


def test_integrated_gradients_converges_to_the_difference() -> None:
    model = mlp(4, 6, 3)
    x = torch.randn(3, 4, dtype=torch.float64)
    gaps = [
        float(dh.attribute(model, x, 1, "integrated_gradients", steps=steps).residual.detach().abs().max())
        for steps in (1, 4, 16)
    ]
    assert gaps[0] > 1e-3
    assert gaps[1] < gaps[0]
    assert gaps[2] < 1e-9
    t = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    path = (t[:, None, None] * x).requires_grad_()
    (gradients,) = torch.autograd.grad(model(path)[..., 1].sum(), path)
    found = dh.attribute(model, x, 1, "integrated_gradients")
    torch.testing.assert_close(found.inputs, gradients.mean(0) * x, rtol=1e-5, atol=1e-6)


def test_smoothgrad_is_the_mean_gradient_around_the_input() -> None:
    model = mlp(4, 6, 3)
    x = torch.randn(3, 4, dtype=torch.float64)
    exact = dh.attribute(model, x, 1, "gradient").inputs
    torch.testing.assert_close(dh.attribute(model, x, 1, "smoothgrad", noise=0.0).inputs, exact, **CLOSE)
    assert (dh.attribute(model, x, 1, "smoothgrad").inputs - exact).abs().max() > 1e-3


def test_targets() -> None:
    model = mlp(4, 6, 3)
    x = torch.randn(5, 4, dtype=torch.float64)
    outputs = model(x).detach()
    largest = dh.attribute(model, x)
    torch.testing.assert_close(largest.output, outputs.amax(1), **CLOSE)
    chosen = torch.tensor([0, 1, 2, 1, 0])
    each = dh.attribute(model, x, chosen)
    torch.testing.assert_close(each.output, outputs[torch.arange(5), chosen], **CLOSE)
    difference = dh.attribute(model, x, lambda out: out[:, 0] - out[:, 1], "blame_bias")
    both = [dh.attribute(model, x, index, "blame_bias").inputs for index in (0, 1)]
    torch.testing.assert_close(difference.inputs, both[0] - both[1], **CLOSE)
    assert difference.residual.abs().max() < 1e-12
    for bad, message in ((3, "not among the 3"), (chosen[:2], "one for each sample"), (lambda out: out, "one number")):
        with pytest.raises(dh.RelevanceError, match=message):
            dh.attribute(model, x, bad)


def test_each_sample_is_explained_by_itself() -> None:
    model = unit_gain(Residual())
    network = dh.trace(model, torch.randn(2, 2, 5, 5, dtype=torch.float64))
    x = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    for method in ("lrp", "baseline", "epsilon_plus"):
        whole = dh.attribute(network, x, 1, method)
        for n in range(4):
            one = dh.attribute(network, x[n : n + 1], 1, method)
            torch.testing.assert_close(whole.inputs[n : n + 1], one.inputs, **CLOSE)
            torch.testing.assert_close(whole.absorbed[n : n + 1], one.absorbed, **CLOSE)
            for name in one.biases:
                torch.testing.assert_close(whole.biases[name][n : n + 1], one.biases[name], **CLOSE)


def test_biases_have_their_parameters_shape_and_layers_that_of_the_value() -> None:
    model = unit_gain(Flat())
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    found = dh.attribute(model, x, 1, "blame_bias", layers=["conv1", "fc1"])
    parameters = dict(model.named_parameters())
    for name in ("conv1.bias", "conv2.bias", "norm.bias", "fc1.bias", "fc2.bias"):
        assert found.biases[name].shape == (3, *parameters[name].shape), name
    assert found.biases["norm.running_mean"].shape == (3, 6)
    assert found.layers["conv1"].shape == (3, 6, 6, 6)
    assert found.layers["fc1"].shape == (3, 7)
    behind = found.biases["fc2.bias"].sum(1) + found.biases["sigmoid"].sum(1)
    torch.testing.assert_close(found.layers["fc1"].sum(1) + behind, found.output, **CLOSE)
    with pytest.raises(dh.RelevanceError, match=r"no layer 'conv9'.*conv1"):
        dh.attribute(model, x, 1, layers=["conv9"])


class Words(nn.Module):
    """Ids, their places and their mask: (n, 5) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 6), nn.Embedding(5, 6)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.read = nn.Linear(6, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids.reshape(-1, ids.shape[1])) + self.places(torch.arange(ids.shape[1]))
        x = x + self.attend(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
        return self.read((x * mask[..., None]).sum(1))


def test_ids_have_the_relevance_of_their_embedding() -> None:
    model = unit_gain(Words())
    ids = torch.randint(11, (3, 5))
    mask = torch.arange(5) < torch.tensor([[5], [3], [4]])
    inputs = {"ids": ids, "mask": mask}
    found = dh.attribute(model, inputs, 1, "blame_bias", layers=["words"], cuts=True)
    assert set(found.inputs) == {"ids", "mask"}
    torch.testing.assert_close(found.inputs["ids"], found.layers["words"].sum(-1), **CLOSE)
    assert not found.inputs["mask"].any()
    assert not found.inputs["ids"][~mask].any()
    assert found.biases["places.weight"].shape == (3, 5, 6)
    assert found.residual.abs().max() < 1e-12
    against = dh.attribute(model, inputs, 1, "baseline")
    assert against.inputs["ids"].shape == ids.shape
    assert against.residual.abs().max() < 1e-12


def test_averages_move_what_embeddings_give_for_ids() -> None:
    model = unit_gain(Words())
    ids, mask = torch.randint(1, 11, (3, 5)), torch.arange(5) < torch.tensor([[5], [3], [4]])
    inputs = {"ids": ids, "mask": mask}

    def gradients(embedded: Tensor) -> Tensor:
        """By the embedding, whose values are put in the place of its own."""
        embedded = embedded.detach().requires_grad_()
        handle = model.words.register_forward_hook(lambda *_: embedded)
        (found,) = torch.autograd.grad(model(**inputs)[:, 1].sum(), embedded)
        handle.remove()
        return found

    words, blank = model.words(ids), model.words(torch.zeros_like(ids))
    count = 400
    path = [blank + (step + 0.5) / count * (words - blank) for step in range(count)]
    expected = ((words - blank) * torch.stack([gradients(each) for each in path]).mean(0)).sum(-1)
    found = dh.attribute(model, inputs, 1, "integrated_gradients", steps=40)
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(found.inputs["ids"], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert found.residual.abs().max() < 1e-3 * found.inputs["ids"].abs().sum(1).max()
    smooth = dh.attribute(model, inputs, 1, "smoothgrad", noise=0.0).inputs["ids"]
    torch.testing.assert_close(smooth, gradients(words).sum(-1), **CLOSE)


class Unknown(nn.Module):
    """An op that has no rule, in a module of its own."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.inv(x + 3 * torch.eye(3, dtype=x.dtype))

    def __init__(self) -> None:
        super().__init__()
        self.inner = self.Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).flatten(1)


def test_an_op_without_a_rule_stops_with_its_name_and_module() -> None:
    x = torch.randn(2, 3, 3, dtype=torch.float64)
    with pytest.raises(dh.RelevanceError, match=r"linalg_inv\w* in inner has no rule.*unknown='gradient'"):
        dh.attribute(Unknown(), x, 1)
    found = dh.attribute(Unknown(), x, 1, unknown="gradient")
    assert len(found.unknown) == 1
    assert "inner" in found.unknown[0]
    assert found.absorbed.abs().max() > 1e-6
    assert found.residual.abs().max() < 1e-12
    with pytest.raises(dh.RelevanceError, match="not a choice"):
        dh.attribute(Unknown(), x, 1, unknown="skip")


def test_samples_that_see_each_other_are_refused() -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.T @ x

    with pytest.raises(dh.RelevanceError, match="see each other"):
        dh.attribute(Mixing(), torch.randn(3, 4), 1)


def test_methods_and_options_that_do_not_exist() -> None:
    model, x = mlp(4, 6, 3), torch.randn(2, 4, dtype=torch.float64)
    with pytest.raises(dh.RelevanceError, match=r"no method 'lpr'; did you mean 'lrp'.*lrp_epsilon.*smoothgrad"):
        dh.attribute(model, x, 1, "lpr")
    with pytest.raises(dh.RelevanceError, match="lrp_epsilon has no option 'gamma'; its options are epsilon"):
        dh.attribute(model, x, 1, "lrp_epsilon", gamma=1)
    with pytest.raises(dh.RelevanceError, match="takes no options"):
        dh.attribute(model, x, 1, named_composite("lrp"), epsilon=1)


def test_a_composite_of_ones_own_by_position_and_name() -> None:
    model = mlp(4, 6, 5, 3, activation=nn.ReLU)
    x = torch.randn(3, 4, dtype=torch.float64)
    own = named_composite("blame_bias").but(first={"linear": WSquare()}, named={"2": {"linear": Epsilon(0.5)}})
    found = dh.attribute(model, x, 1, own, layers=["0"])
    squared = model[0].weight.detach() ** 2
    expected = (found.layers["0"].detach() / squared.sum(1)) @ squared
    torch.testing.assert_close(found.inputs, expected, **CLOSE)
    hidden = model[:3](x).detach()
    epsilon = dh.attribute(model, x, 1, own, layers=["2"]).layers["2"].detach()
    swallowed = (epsilon * 0.5 / (hidden.abs() + 0.5)).sum(1)
    torch.testing.assert_close(found.absorbed.detach(), swallowed, **CLOSE)
    assert isinstance(own.rules["movement"], Gradient)


@pytest.mark.parametrize("method", ["blame_bias", "gradient_x_input", "epsilon of all, far from zero"])
def test_float32_agrees_with_float64(method: str) -> None:
    model = mlp(8, *[16] * 20, 4, activation=nn.ReLU)
    x = torch.randn(16, 8, dtype=torch.float64)
    chosen = named_composite("lrp_epsilon", epsilon=10.0) if method.startswith("epsilon") else method
    exact = dh.attribute(model, x, 1, chosen).inputs.detach()
    rough = dh.attribute(model.float(), x.float(), 1, chosen).inputs.detach().double()
    gaps = (rough - exact).norm(dim=1) / exact.norm(dim=1)
    assert gaps.median() < 1e-6
    assert gaps.max() < 1e-5


class Sorted(nn.Module):
    """Samples change places inside, as those do that go to experts, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.middle, self.leave = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.enter(x))
        order = hidden[:, 0].argsort()
        return self.leave(torch.tanh(self.middle(hidden[order]))[order.argsort()])


@pytest.mark.parametrize("method", ["blame_bias", "gradient_x_input"])
def test_biases_are_those_of_the_sample_where_samples_change_places(method: str) -> None:
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = dh.trace(unit_gain(Sorted()), x)
    together = dh.attribute(network, x, 1, method)
    for sample in range(7):
        alone = dh.attribute(network, x[sample : sample + 1], 1, method)
        torch.testing.assert_close(together.inputs[sample], alone.inputs[0], **CLOSE)
        for name, bias in alone.biases.items():
            torch.testing.assert_close(together.biases[name][sample], bias[0], **CLOSE)


def test_a_relevance_prints_as_a_short_table_whose_shares_sum_to_the_output() -> None:
    model = unit_gain(Flat())
    found = dh.attribute(model, torch.randn(12, 2, 6, 6, dtype=torch.float64), 1, "lrp_epsilon", epsilon=0.1)
    lines = str(found).splitlines()
    assert repr(found) == str(found)
    assert len(lines) < 14
    assert max(map(len, lines)) < 160
    by = "lrp_epsilon(epsilon=0.1)"
    assert lines[0] == f"Relevance by {by} of inputs (12, 2, 6, 6), 12 samples; shares of the output:"
    assert lines[1].split() == ["sample", "target", "output", "inputs", "biases", "absorbed", "residual"]
    assert "and 4 more samples" in lines
    for sample in range(8):
        index, target, output, *shares = lines[2 + sample].split()
        assert (int(index), int(target)) == (sample, 1)
        assert float(output) == pytest.approx(float(found.output[sample].detach()), rel=1e-3)
        assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.2)
    largest = max(found.biases, key=lambda name: float(found.biases[name].detach().flatten(1).sum(1).abs().mean()))
    assert lines[-1].startswith(f"largest biases (mean absolute relevance): {largest} ")
    assert "biases (" not in str(dh.attribute(mlp(4, 6, 3, activation=nn.ReLU), torch.randn(2, 4).double(), 1, "lrp"))
    together = dh.attribute(model, torch.randn(2, 2, 6, 6, dtype=torch.float64), 1, "blame_bias", constants="all")
    assert str(together).splitlines()[-1].startswith("largest biases (mean absolute relevance): one ")


def test_a_relevance_without_an_index_of_the_target_and_with_an_output_of_zero_prints() -> None:
    model = nn.Linear(3, 2, bias=False)
    found = dh.attribute(model, torch.zeros(1, 3), lambda out: out[:, 0], layers=[], unknown="gradient")
    assert str(found).splitlines()[-1].split() == ["0", "0", "0", "0", "0", "0"]
    assert "1 sample;" in str(found)


def test_a_method_of_ones_own_is_found_by_its_name_with_its_options() -> None:
    @register_composite("epsilon_everywhere")
    def epsilon_everywhere(*, epsilon: float = 0.5) -> dh.Composite:
        """LRP-epsilon."""
        return named_composite("lrp_epsilon", epsilon=epsilon)

    try:
        model, x = mlp(4, 6, 3), torch.randn(2, 4, dtype=torch.float64)
        own = dh.attribute(model, x, 1, "epsilon_everywhere", epsilon=0.2)
        assert torch.equal(own.inputs, dh.attribute(model, x, 1, "lrp_epsilon", epsilon=0.2).inputs)
        with pytest.raises(dh.RelevanceError, match="epsilon_everywhere has no option 'gamma'"):
            dh.attribute(model, x, 1, "epsilon_everywhere", gamma=1)
        with pytest.raises(ValueError, match="epsilon_everywhere"):
            register_composite("epsilon_everywhere")(epsilon_everywhere)
    finally:
        del METHODS._entries["epsilon_everywhere"]


def test_a_method_that_gives_no_composite_is_refused_and_averages_have_no_rules() -> None:
    register_composite("nothing")(lambda: None)
    try:
        with pytest.raises(dh.RelevanceError, match="The method nothing gave a NoneType"):
            dh.attribute(mlp(4, 6, 3), torch.randn(2, 4, dtype=torch.float64), 1, "nothing")
    finally:
        del METHODS._entries["nothing"]
    with pytest.raises(dh.RelevanceError, match="smoothgrad is an average of gradients"):
        named_composite("smoothgrad")


def test_lrp_gamma_conserves_and_is_lrp_0_at_zero() -> None:
    model = unit_gain(Flat())
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    found = dh.attribute(model, x, 1, "lrp_gamma", gamma=0.5, cuts=True)
    assert max(float((cut.residual.abs() / cut.size).max()) for cut in found.cuts.values()) < 1e-12
    zero = dh.attribute(model, x, 1, "lrp_gamma", gamma=0.0).inputs
    torch.testing.assert_close(zero, dh.attribute(model, x, 1, "blame_bias").inputs, **CLOSE)
    assert (found.inputs - zero).abs().max() > 1e-3


def test_methods_of_other_packages_come_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    class Found:
        def __init__(self, group: str) -> None:
            self.group = group

        def load(self) -> None:
            loaded.append(self.group)
            register_composite("from_elsewhere")(lambda *, epsilon=0.1: named_composite("lrp_epsilon", epsilon=epsilon))

    monkeypatch.setattr("deadhead.registry.entry_points", lambda group: [Found(group)])
    monkeypatch.setattr(METHODS, "_loaded", False)
    try:
        found = dh.attribute(mlp(4, 6, 3), torch.randn(2, 4, dtype=torch.float64), 1, "from_elsewhere", epsilon=0.3)
        assert loaded == ["deadhead.composites"]
        assert found.method == "from_elsewhere(epsilon=0.3)"
    finally:
        METHODS._entries.pop("from_elsewhere", None)
