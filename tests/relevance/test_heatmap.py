"""What a relevance says of itself: contributions, and a picture of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.relevance.heatmap import AGAINST, FOR
from support.networks import unit_gain


def pictures(channels: int = 1) -> dh.Relevance:
    model = unit_gain(nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)))
    return dh.attribute(model, torch.rand(3, channels, 8, 8, dtype=torch.float64), method="blame_bias")


def titles(found: dh.Relevance, **options: object) -> list[str]:
    return [axes.get_title(loc="left") for axes in found.heatmap(**options).axes if axes.get_title(loc="left")]  # type: ignore[arg-type]


def test_contributions_and_the_residual_are_the_output() -> None:
    found = pictures()
    for sample in range(3):
        parts = found.contributions(sample)
        assert set(parts) == {"inputs", "0.bias", "3.bias", "absorbed"}
        assert sum(parts.values()) + float(found.residual[sample]) == pytest.approx(float(found.output[sample]), 1e-12)
        assert parts["inputs"] == pytest.approx(float(found.inputs[sample].sum()), 1e-12)


def test_contributions_follow_the_axis_of_the_samples() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mean(0))

    model = unit_gain(Turned())
    x = torch.randn(5, 3, 4, dtype=torch.float64)  # positions, samples, features
    found = dh.attribute(dh.trace(model, x, batch_axis=1), x, 1, "blame_bias")
    assert found.contributions(2)["inputs"] == pytest.approx(float(found.inputs[:, 2].sum()), 1e-12)
    assert "input" in titles(found)


def test_one_constant_for_all_biases_has_their_relevance_together() -> None:
    model = unit_gain(nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)))
    x = torch.randn(5, 3, dtype=torch.float64)
    each, one = (dh.attribute(model, x, 0, "blame_bias", constants=c) for c in ("each", "all"))
    assert set(each.biases) == {"0.bias", "1", "2.bias"}
    assert set(one.biases) == {"one"}
    together = sum(bias.flatten(1).sum(1) for bias in each.biases.values())
    assert torch.allclose(one.biases["one"], together, rtol=1e-12)
    assert torch.equal(one.inputs, each.inputs)
    assert float(one.residual.abs().max()) < 1e-12
    with pytest.raises(dh.RelevanceError, match="'each' or 'all'"):
        dh.attribute(model, x, 0, "blame_bias", constants="none")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_pictures_have_their_heatmap_beside_them(channels: int, tmp_path: Path) -> None:
    found = pictures(channels)
    figure = found.heatmap(tmp_path / "x.png", samples=[2, 0])
    assert matplotlib.image.imread(tmp_path / "x.png").shape[2] == 4
    names = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    value = f"{float(found.output[2]):.4g}"
    assert names[:3] == ["input", "relevance", f"what makes up output {int(found.target[2])}: {value}"]  # type: ignore[index]
    assert len(names) == 6
    heat = figure.axes[1].images[1]
    assert np.allclose(heat.get_array(), found.inputs[2].detach().sum(0).numpy())
    assert heat.norm.vmin == -heat.norm.vmax


def test_bars_are_what_makes_up_the_output() -> None:
    found = pictures()
    bars = found.heatmap(samples=[1]).axes[2]
    parts = found.contributions(1)
    lengths = [patch.get_width() for patch in bars.patches]
    assert lengths[0] == pytest.approx(parts["inputs"])
    assert sorted(lengths[1:]) == pytest.approx(sorted((parts["0.bias"], parts["3.bias"])))
    colours = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in bars.patches]
    assert colours == [FOR if length >= 0 else AGAINST for length in lengths]
    assert bars.get_yticklabels()[0].get_text() == "inputs"


def test_many_biases_are_gathered() -> None:
    layers = [layer for _ in range(14) for layer in (nn.Linear(4, 4), nn.ReLU())]
    found = dh.attribute(unit_gain(nn.Sequential(*layers)), torch.randn(1, 4, dtype=torch.float64), 0, "blame_bias")
    bars = found.heatmap().axes[1]
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert len(names) <= 11
    total = sum(patch.get_width() for patch in bars.patches)
    assert total == pytest.approx(float(found.output[0]), rel=1e-9, abs=1e-12)


def test_ids_have_bars_with_their_tokens() -> None:
    model = nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(30, 2)).double()
    found = dh.attribute(model, torch.randint(9, (2, 5)), 0, "blame_bias")
    axes = found.heatmap(samples=[1], tokens=["a", "b", "$c$", "d", "e"]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "$c$", "d", "e"]
    assert [patch.get_height() for patch in axes.patches] == pytest.approx(found.inputs[1].tolist())
    with pytest.raises(dh.DataError, match="2 tokens for 5 entries"):
        found.heatmap(tokens=["a", "b"])


def test_vectors_volumes_single_numbers_and_gradients_can_be_drawn() -> None:
    for shape in ((400,), (1,), (2, 3, 4, 5)):
        size = int(torch.tensor(shape).prod())
        model = nn.Sequential(nn.Flatten(), nn.Linear(size, 2)).double()
        x = torch.randn(2, *shape, dtype=torch.float64)
        assert "what makes up" in titles(dh.attribute(model, x, 0, "blame_bias"))[-1]
    assert "residual" in [
        label.get_text() for label in dh.attribute(model, x, 0, "gradient").heatmap().axes[-2].get_yticklabels()
    ] + [label.get_text() for label in dh.attribute(model, x, 0, "gradient").heatmap().axes[2].get_yticklabels()]


def test_bad_paths_and_samples_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    found = pictures()
    with pytest.raises(dh.DataError, match="no format"):
        found.heatmap(tmp_path / "x.doc")
    with pytest.raises(dh.DataError, match="is not there"):
        found.heatmap(tmp_path / "missing" / "x.png")
    for samples in ([3], [-1], []):
        with pytest.raises(dh.DataError, match="there are 3"):
            found.heatmap(samples=samples)
    assert list(tmp_path.iterdir()) == []
