"""Copies pruned side by side: their masks hold, their sizes are what cutting gives, and the twin is untouched."""

from __future__ import annotations

import torch

from deadhead.lab.models import small_cnn
from deadhead.lab.networks.arms import Arms, Way, batched, parameters, remaining
from deadhead.lab.train import fit

DRAW = torch.Generator().manual_seed(0)
INPUTS, TARGETS = torch.rand(60, 1, 28, 28, generator=DRAW), torch.randint(10, (60,), generator=DRAW)


def test_units_are_rounded_as_in_the_thesis_and_counted_as_in_the_network() -> None:
    assert remaining(0.6) == {"conv1": 4, "conv2": 7, "fc1": 26}
    assert remaining(0.1) == {"conv1": 8, "conv2": 15, "fc1": 58}
    assert parameters() == sum(each.numel() for each in small_cnn().parameters())
    assert (parameters(remaining(0.6)), parameters(remaining(0.4))) == (4019, 8069)


def test_a_copy_is_pruned_and_stays_so_while_its_twin_trains_as_alone() -> None:
    start = small_cnn(seed=0)
    ways = {
        "twin": Way(),
        "half": Way({1: {"conv1": 4, "conv2": 8, "fc1": 32}}, {"criterion": "magnitude", "compensate": "zero"}),
        "weights": Way({1: 0.25, 2: 0.1}, {"scope": "all"}),
    }
    arms, draw = Arms(start, ways, 0.1), torch.Generator().manual_seed(5)
    known = batched(INPUTS, TARGETS, 20)
    arms.stack.epoch(INPUTS, TARGETS, 20, draw)
    norms = {name: arms.models["half"].get_parameter(f"{name}.weight").flatten(1).norm(dim=1) for name in remaining(0)}
    assert arms.due(1) == ["half", "weights"]
    assert arms.due(2) == ["weights"]
    closed = arms.prune(1, known)["half"]
    for layer, norm in norms.items():
        assert set(closed[layer]) == set(norm.argsort()[: len(norm) // 2].tolist())
    for _ in range(2):
        arms.stack.epoch(INPUTS, TARGETS, 20, draw)
    assert arms.units("half") == {"conv1": 4, "conv2": 8, "fc1": 32}
    assert (arms.models["half"].get_parameter("fc1.weight")[closed["fc1"]] == 0).all()
    assert (arms.models["half"].get_parameter("fc2.weight")[:, closed["fc1"]] == 0).all()
    weights = [each for name, each in arms.models["weights"].named_parameters() if name.endswith("weight")]
    assert sum(int((each != 0).sum()) for each in weights) == round(0.25 * sum(each.numel() for each in weights))
    alone = small_cnn(seed=0)
    fit(alone, INPUTS, TARGETS, epochs=3, batch_size=20, learning_rate=0.1, optimizer="sgd", seed=5)
    for mine, other in zip(arms.models["twin"].parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    cut = arms.masks["half"].cut(known).model
    assert sum(each.numel() for each in cut.parameters()) == parameters(arms.units("half"))
    torch.testing.assert_close(cut(INPUTS), arms.models["half"](INPUTS), rtol=0, atol=1e-5)


def test_opened_units_train_again_once_they_are_no_longer_held() -> None:
    way = Way({1: {"conv1": 8, "conv2": 16, "fc1": 10}}, {"criterion": "magnitude"})
    arms = Arms(small_cnn(seed=1), {"only": way}, 0.1)
    closed = arms.prune(1, batched(INPUTS, TARGETS))["only"]["fc1"]
    weight = arms.models["only"].get_parameter("fc1.weight")
    arms.masks["only"].open()
    before = weight[closed].clone()
    assert before.abs().min() > 0
    arms.hold("only")
    arms.stack.step(INPUTS, TARGETS)
    moved = (weight[closed] - before).abs()
    assert 0 < moved.max() < before.abs().max()
