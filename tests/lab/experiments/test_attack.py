"""The attack: copies that train as they would alone, numbers worked by hand, and what holds at quick size."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deadhead.lab.experiments import EXPERIMENTS
from deadhead.lab.experiments.attack.looks import Look, Looker
from deadhead.lab.experiments.attack.numbers import entropy_change, saturation
from deadhead.lab.experiments.attack.outcomes import Outcome, outcomes
from deadhead.lab.experiments.attack.runs import LAYERS, Copy, Run, Trainer, attacked_units, plan
from deadhead.lab.experiments.attack.settings import Attacks
from deadhead.lab.experiments.attack.states import states
from deadhead.lab.judges import FAILS, HOLDS
from deadhead.lab.models import cifar_cnn
from support.lab import drawn_all, quick

INTACT = Run("intact", "relu", "conv1", 0, 0, 1.0, 1, 0, 9)


def images(count: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 32, 32, generator=draw, dtype=torch.float64), torch.randint(
        10, (count,), generator=draw
    )


def alone(network: nn.Sequential, run: Run, trainer: Trainer, first: int, last: int) -> list[float]:
    """Plain SGD in which one unit's weights are stepped by hand, `multiplier` times as far."""
    losses = []
    for step in range(first, last):
        rows = trainer.batches[step].long()
        loss = functional.cross_entropy(network(trainer.inputs[rows]), trainer.targets[rows])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(network.named_parameters(), gradients, strict=True):
                rate = torch.full_like(parameter, trainer.rate)
                if step in (run.start + i * run.interval for i in range(run.repeats)) and name == f"{run.layer}.weight":
                    rate[run.unit] *= run.multiplier
                parameter -= rate * gradient
        losses.append(loss.item())
    return losses


def test_attacked_copies_train_side_by_side_as_each_would_alone() -> None:
    runs = [
        INTACT,
        Run("early", "relu", "conv1", 3, 1, 20.0, 2, 3, 9),
        Run("early", "relu", "conv2", 15, 2, 50.0, 1, 2, 9),
        Run("early", "tanh", "fc1", 16, 0, 30.0, 3, 2, 9),
        Run("early", "norm", "fc1", 63, 5, 10.0, 1, 3, 9),
    ]
    kinds = {"relu": ("relu", "none"), "tanh": ("tanh", "none"), "norm": ("relu", "after")}
    copies = [Copy(run, cifar_cnn(*kinds[run.network], seed=i).double()) for i, run in enumerate(runs)]
    plain = copy.deepcopy(copies)
    trainer = Trainer(*images(12), Attacks(batch_size=4, stack=3), epochs=3, seed=0)
    assert len(trainer.batches) == 9
    losses = [trainer.train(copies, first, last) for first, last in ((0, 2), (2, 7))]  # cut in the middle of attacks
    for i, each in enumerate(plain):
        found = alone(each.network, each.run, trainer, 0, 7)
        assert losses[0][i] == pytest.approx(sum(found[:2]) / 2, abs=1e-9)
        assert losses[1][i] == pytest.approx(sum(found[2:]) / 5, abs=1e-9)
        for ours, expected in zip(
            copies[i].network.state_dict().values(), each.network.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


def test_the_plan_attacks_each_layer_and_ends_no_later_than_its_network() -> None:
    runs = plan(Attacks(), {"norm": 15630, "relu": 15630, "tanh": 46890})
    assert len({(run.set, run.network, run.layer, run.unit, run.start, run.multiplier) for run in runs}) == len(runs)
    assert attacked_units(runs, "norm") == {"conv1": [0, 2, 4], "conv2": [0, 4, 8], "fc1": [0, 16, 32]}
    assert {run.start for run in runs if run.set == "starts" and run.network == "norm"} == {500, 1500, 2500, 5000}
    assert all(len(run.attacked) == 10 and max(run.attacked) < run.end for run in runs)
    short = plan(Attacks(), {"norm": 2500, "relu": 2500, "tanh": 2500})
    assert max(run.end for run in short) == 2500
    assert all(run.start < run.end for run in short)
    assert {run.network for run in plan(Attacks(networks=("norm",)), {"norm": 9000})} == {"norm"}


def test_a_look_is_what_a_plain_loop_measures() -> None:
    network = cifar_cnn("relu", "none", seed=3).double()
    inputs, targets = images(10)
    look = Looker(cifar_cnn("relu", "none", seed=4).double(), inputs, targets).look(
        network, 7, 0.5, {"conv2": [5]}, {"fc1": [2]}
    )
    assert [name for name, _ in network.named_children()][4] == "conv2"
    raw = network[:5](inputs).detach().requires_grad_()
    losses = functional.cross_entropy(network[5:](raw), targets, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), raw)
    replaced = raw.detach().clone()
    replaced[:, 5] = replaced[:, 5].mean()
    penalty = (functional.cross_entropy(network[5:](replaced), targets, reduction="none") - losses).abs().sum()
    assert float(look.mrp["conv2"][5]) == pytest.approx(float(penalty.detach()), rel=1e-9)
    centred = raw.detach() - raw.detach().mean((0, 2, 3), keepdim=True)
    saliency = (centred * gradient).sum((2, 3)).abs().sum(0)
    torch.testing.assert_close(look.mrs["conv2"], saliency, rtol=1e-9, atol=0)
    torch.testing.assert_close(look.output_gradient["conv2"], gradient.abs().sum((0, 2, 3)), rtol=1e-9, atol=0)
    torch.testing.assert_close(look.largest["conv2"], gradient.abs().amax((0, 2, 3)), rtol=1e-9, atol=0)
    assert look.loss == pytest.approx(float(losses.mean().detach()), rel=1e-9)
    kept = look.values["fc1"][2]
    torch.testing.assert_close(kept["consumer"], kept["producer"].relu())
    torch.testing.assert_close(kept["producer"], network[:10](inputs)[:, 2].detach().float())
    assert (look.step, look.training_loss) == (7, 0.5)


def made_up(step: int, mrp: list[float], largest: list[float]) -> Look:
    """A look at conv1 of four units; the other layers have two units that are alive."""
    alive = torch.ones(2)
    held = {"conv2": alive, "fc1": alive}
    penalties, gradients = {"conv1": torch.tensor(mrp), **held}, {"conv1": torch.tensor(largest), **held}
    return Look(step, 1.0, 1.0, penalties, penalties, gradients, gradients, gradients, gradients, gradients, {})


def test_dead_and_frozen_units_are_counted_against_the_intact_layer() -> None:
    run = Run("early", "relu", "conv1", 1, 0, 10.0, 1, 1, 8)
    beside = [made_up(step, [2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]) for step in (4, 8)]
    looks = [
        made_up(4, [2.0, 0.01, 2.0, 2.0], [0.001, 0.001, 1.0, 0.001]),
        made_up(8, [2.0, 0.01, 0.01, 2.0], [0.001, 0.001, 1.0, 1.0]),
    ]
    found = states(outcomes({INTACT: beside, run: looks}), {"relu": beside})
    assert (found["frozen_at_half"], found["frozen_stay"]) == (3, pytest.approx(2 / 3))
    assert (found["dead_at_half"], found["dead_stay"]) == (1, 1.0)
    assert (found["dead_at_end"], found["dead_frozen"], found["frozen_not_dead"]) == (2, 0.5, 1)
    assert Outcome(run, looks, beside).log_q == pytest.approx(math.log(0.005))


def test_an_attack_that_ended_training_is_no_outcome() -> None:
    run = Run("early", "relu", "conv1", 1, 0, 10.0, 1, 1, 8)
    beside = [made_up(8, [2.0] * 4, [1.0] * 4)]
    lost = Look(8, math.nan, math.nan, *[{}] * 8)
    assert outcomes({INTACT: beside, run: [lost]}) == []


def test_squeezed_values_have_less_entropy_and_saturated_ones_lie_at_the_edges() -> None:
    even = torch.linspace(0, 1, 1000)
    assert entropy_change(even**8, even) < -0.5 < 0 < entropy_change(even, even**8)
    assert saturation(torch.tensor([-1.0, 0.96, 0.94, 0.0])) == 0.5


def test_every_claim_of_the_chapter_is_there_and_can_fail() -> None:
    claims = {claim.id: claim for claim in EXPERIMENTS["attack"].claims}
    assert list(claims) == [f"E8.{i}" for i in (1, 2, 3)] + [f"E9.{i}" for i in range(1, 18)]
    for claim in claims.values():
        assert claim.made_up(holds=True).verdict == HOLDS
        assert claim.made_up(holds=False).verdict == FAILS
    names = {picture.name for picture in EXPERIMENTS["attack"].pictures}
    assert {claim.picture for claim in claims.values()} <= names


def test_a_quick_run_attacks_in_all_networks_and_draws_every_figure() -> None:
    found = quick("attack")
    assert found["attacked"] > 20
    assert {curve["set"] for curve in found["curves"]} == {"early", "late", "mild", "starts", "multipliers"}
    grown = [
        curve["incoming"][-1] / found["intact"][curve["key"]]["incoming"][-1]
        for curve in found["curves"]
        if curve["multiplier"] == 1000
    ]
    assert min(grown) > 1.05  # a step a thousand times as far makes the weights larger
    for judged in EXPERIMENTS["attack"].claims:
        judged.judge([found] * 5)  # every number is there
    drawn_all("attack")


def test_layers_have_the_units_that_the_network_has() -> None:
    network = cifar_cnn()
    assert {name: len(network.get_submodule(name).weight) for name in LAYERS} == LAYERS  # type: ignore[arg-type]
