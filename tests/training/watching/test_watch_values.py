"""What a watch measures equals what plain loops, hooks and autograd give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadhead as dh
from deadhead.graph.graph import Graph
from deadhead.training.watching.histograms import Histogram
from deadhead.training.watching.watch import Watch, watch
from support.networks import Flat, TwoReaders, classes, unit_gain, values
from support.quick import each_of
from zoo.plain import ENTRIES

MOVING = ("experts_stacked", "gated_glu")
MAKERS = ("conv1", "conv2", "fc1")


def flat() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    return unit_gain(Flat()), classes(12, 2, 6, 6, count=4)


def watched(model: nn.Module, data: Any, loss: Any = "cross_entropy", **options: Any) -> Watch:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = watch(model, optimizer, data=data, loss=loss, **options)
    seen.stop()
    return seen


def losses_with(model: nn.Module, name: str, edit: Callable[[Tensor], Tensor], data: Any) -> Tensor:
    """The loss of each sample with the output of a module edited."""
    handle = model.get_submodule(name).register_forward_hook(lambda module, args, output: edit(output))
    with torch.no_grad():
        found = F.cross_entropy(model(data[0][0]), data[0][1], reduction="none")
    handle.remove()
    return found


def at_mean(unit: int) -> Callable[[Tensor], Tensor]:
    """A channel in the place of its mean over samples and positions."""

    def edit(output: Tensor) -> Tensor:
        other = output.clone()
        other[:, unit] = output[:, unit].mean()
        return other

    return edit


def output_and_gradient(model: nn.Module, name: str, data: Any) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = model.get_submodule(name).register_forward_hook(keep)
    F.cross_entropy(model(data[0][0]), data[0][1], reduction="sum").backward()
    handle.remove()
    model.zero_grad()
    assert kept[0].grad is not None
    return kept[0].detach(), kept[0].grad


@pytest.mark.parametrize("name", MAKERS)
def test_the_penalty_is_what_closing_each_unit_at_its_raw_mean_does_to_each_sample(name: str) -> None:
    model, data = flat()
    intact = losses_with(model, name, lambda output: output, data)
    size = model.get_submodule(name).weight.shape[0]
    expected = [(losses_with(model, name, at_mean(unit), data) - intact).abs().sum().item() for unit in range(size)]
    found = watched(model, data).history.series(name, "mrp")[0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", [12, 5])
@pytest.mark.parametrize("name", MAKERS)
def test_saliency_and_output_gradient_are_those_of_autograd_however_the_probe_is_split(name: str, batch: int) -> None:
    model, data = flat()
    output, gradient = output_and_gradient(model, name, data)
    mean = output.movedim(1, -1).flatten(0, -2).mean(0).reshape(1, -1, *[1] * (output.dim() - 2))
    terms = ((output - mean) * gradient).flatten(2).sum(2) if output.dim() > 2 else (output - mean) * gradient
    split = list(zip(data[0][0].split(batch), data[0][1].split(batch), strict=True))
    history = watched(model, split).history
    torch.testing.assert_close(history.series(name, "mrs")[0], terms.abs().sum(0), rtol=1e-9, atol=1e-12)
    sums = gradient.abs().movedim(1, -1).flatten(0, -2).sum(0)
    torch.testing.assert_close(history.series(name, "output_gradient")[0], sums, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        loss = F.cross_entropy(model(data[0][0]), data[0][1])
    assert history.loss[0] == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("site", ["producer", "consumer"])
def test_saliency_and_penalty_are_those_of_score_at_both_sites(site: str) -> None:
    model, data = unit_gain(TwoReaders()), values(9, 3, batch=4)
    seen = watched(model, data, "mse", site=site)
    for criterion in ("mrs", "mrp"):
        expected = dh.score(model, data, loss="mse", criterion=criterion, site=site)
        for name in expected:
            found = seen.history.series(name, criterion)[0]
            torch.testing.assert_close(found, expected[name], rtol=1e-9, atol=1e-12)


def test_norms_are_sums_of_absolute_weights_without_biases() -> None:
    model, data = flat()
    history = watched(model, data).history
    incoming = model.conv1.weight.detach().abs().sum((1, 2, 3))
    torch.testing.assert_close(history.series("conv1", "incoming")[0], incoming)
    torch.testing.assert_close(history.series("conv1", "outgoing")[0], model.conv2.weight.detach().abs().sum((0, 2, 3)))
    per_channel = model.fc1.weight.detach().abs().sum(0).reshape(5, 4).sum(1)  # 2 x 2 positions of each channel
    torch.testing.assert_close(history.series("conv2", "outgoing")[0], per_channel)


def test_the_gradient_of_incoming_weights_is_that_of_the_last_training_batch() -> None:
    model, data = flat()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=1) as seen:
        F.cross_entropy(model(data[0][0][:3]), data[0][1][:3]).backward()
        optimizer.step()
    series = seen.history.series("fc1", "incoming_gradient")
    assert series[0].isnan().all(), "there was no gradient before the first step"
    torch.testing.assert_close(series[1], model.fc1.weight.grad.abs().sum(1))


def test_histograms_count_raw_outputs_and_what_is_read() -> None:
    model, data = flat()
    history = watched(model, data).history
    output, _ = output_and_gradient(model, "fc1", data)
    for kind, expected in (("output", output), ("read", output.sigmoid())):
        steps, edges, counts = history.histograms("fc1", kind)
        assert steps == [0]
        for unit in range(7):
            exact = torch.histogram(expected[:, unit], bins=edges)[0]
            assert torch.equal(counts[0, unit].double(), exact), (kind, unit)


def test_a_histogram_counts_at_most_so_many_values_spread_over_the_whole_image() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 64))
    data = [(torch.randn(4, 1, 64, 64), torch.zeros(4, 1, 1, 1))]  # 16,384 positions
    _, edges, counts = watched(model, data, "mse").history.histograms("0", "output")
    assert counts.sum(-1).max() <= 1024
    whole = torch.histogram(model[0](data[0][0])[:, 0].detach().flatten(), bins=edges.float())[0]
    share = counts[0, 0] / counts[0, 0].sum()
    assert (share - whole / whole.sum()).abs().max() < 0.03


def test_widened_bins_hold_what_counting_anew_in_them_gives() -> None:
    values_, units = torch.rand(500, dtype=torch.float64), torch.randint(3, (500,))
    narrow = Histogram.empty(3, 0.0, 1.0, bins=16).with_values(values_, units)
    for low, high in ((-0.5, 1.0), (0.0, 1.5), (-2.9, 4.0)):
        wide = narrow.reaching(low, high)
        assert wide.low <= low
        assert wide.high >= high
        assert torch.equal(
            wide.counts, Histogram.empty(3, wide.low, wide.high, bins=16).with_values(values_, units).counts
        )


def test_histograms_of_all_times_share_their_bins_when_values_grow() -> None:
    model, data = flat()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=1) as seen:
        before = seen.history.histograms("fc1")[1]
        with torch.no_grad():
            model.fc1.weight.mul_(10)
        optimizer.step()
    steps, edges, counts = seen.history.histograms("fc1")
    assert steps == [0, 1]
    assert edges[-1] - edges[0] > 2 * (before[-1] - before[0])
    assert (counts.sum(-1) == 12).all(), "no value was lost"


def test_a_measurement_without_the_penalty_takes_one_pass_forward_and_one_backward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, data = flat()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=1, mrp_every=None):
        counts = {"forward": 0, "backward": 0, "module": 0}
        run, backward = Graph.run, torch.autograd.backward

        def counted_run(self: Graph, *args: Any, **kwargs: Any) -> Any:
            counts["forward"] += 1
            return run(self, *args, **kwargs)

        def counted_backward(*args: Any, **kwargs: Any) -> None:
            counts["backward"] += 1
            backward(*args, **kwargs)

        def counted_module(*args: Any) -> None:
            counts["module"] += 1

        monkeypatch.setattr(Graph, "run", counted_run)
        monkeypatch.setattr(torch.autograd, "backward", counted_backward)
        model.register_forward_hook(counted_module)
        optimizer.step()
    assert counts == {"forward": 1, "backward": 1, "module": 0}


def test_the_penalty_is_measured_at_every_so_many_measurements_and_on_request() -> None:
    model, data = flat()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, data=data, loss="cross_entropy", every=2, mrp_every=3, groups="fc1") as seen:
        for _ in range(12):
            optimizer.step()
        seen.measure(mrp=True)
    assert seen.history.steps == [0, 2, 4, 6, 8, 10, 12, 12]
    there = [bool(row.isfinite().all()) for row in seen.history.series("fc1", "mrp")]
    assert there == [True, False, False, True, False, False, True, True]
    assert seen.history.groups == ["fc1"]


def test_chosen_units_alone_have_a_penalty_and_histograms() -> None:
    model, data = flat()
    seen = watched(model, data, units={"fc1": [2, 5]})
    assert seen.history.groups == ["fc1"]
    assert seen.history.series("fc1", "mrp")[0].isfinite().nonzero()[:, 0].tolist() == [2, 5]
    assert seen.history.histograms("fc1")[2][0].any(1).nonzero()[:, 0].tolist() == [2, 5]
    assert seen.history.series("fc1", "mrs").isfinite().all()
    assert seen.thresholds["fc1"]["by"] == "mrp and mrs"


def squares(outputs: Tensor, batch: Tensor) -> Tensor:
    return outputs.flatten(1).square().mean(1)


@pytest.mark.parametrize("site", ["producer", "consumer"])
@pytest.mark.parametrize("name", each_of(["experts_stacked", "gated_glu", "lstm", "attention_cross"], MOVING))
def test_saliency_is_that_of_score_in_architectures_that_move_samples_and_units_about(name: str, site: str) -> None:
    entry = ENTRIES[name]
    model = entry.build()
    data = [(entry.inputs(4),)]
    network = dh.trace(model, data[0][0], batch_axis=entry.batch_axis)
    expected = dh.score(network, data, loss=squares, criterion="mrs", site=site)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(network, optimizer, data=data, loss=squares, site=site, mrp_every=None) as seen:
        pass
    assert expected
    for group, scores in expected.items():
        found = seen.history.series(group, "mrs")[0]
        torch.testing.assert_close(found, scores, rtol=1e-6, atol=1e-9 * float(scores.max()))
