"""The oracle: the order of the plain loop, exactly; races near to it; runs that were stopped go on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.gates.batched import Stacked
from deadhead.gates.gates import Gates
from deadhead.select.brute_force import race as races
from support.networks import Flat, classes, mlp, unit_gain


def plain_loop(model: nn.Module, data: list[Any], readers: dict[str, tuple[str, int]], remove: int) -> dh.Removal:
    """The order and the losses of a loop over forward passes in which hooks mask what the consumers read."""
    masks = {name: torch.ones(size, dtype=torch.float64) for name, (_, size) in readers.items()}

    def mean_loss() -> float:
        handles = []
        for name, (reader, _) in readers.items():

            def hide(_: nn.Module, args: tuple[Tensor], name: str = name) -> Tensor:
                wide = masks[name].repeat_interleave(args[0].shape[1] // len(masks[name]))
                return args[0] * wide.reshape(1, -1, *[1] * (args[0].dim() - 2))

            handles.append(model.get_submodule(reader).register_forward_pre_hook(hide))
        with torch.no_grad():
            losses = [nn.functional.cross_entropy(model(x), t, reduction="none") for x, t in data]
        for handle in handles:
            handle.remove()
        return float(torch.cat(losses).mean())

    result = dh.Removal([], [mean_loss()])
    for _ in range(remove):
        tried = {}
        for name, mask in masks.items():
            for unit in range(len(mask)) if mask.sum() > 1 else ():
                if mask[unit]:
                    mask[unit] = 0
                    tried[name, unit] = mean_loss()
                    mask[unit] = 1
        best = min(tried, key=tried.__getitem__)
        masks[best[0]][best[1]] = 0
        result.order.append(best)
        result.losses.append(tried[best])
    return result


def networks() -> dict[str, tuple[nn.Module, list[Any], dict[str, tuple[str, int]]]]:
    flat = unit_gain(Flat()).double()
    sizes = {"conv1": flat.conv1.out_channels, "conv2": flat.conv2.out_channels, "fc1": flat.fc1.out_features}
    readers = dict(zip(sizes, ("conv2", "fc1", "fc2"), strict=True))
    return {
        "mlp": (mlp(3, 7, 5, 3).double(), classes(40, 3, count=3, batch=16), {"0": ("2", 7), "2": ("4", 5)}),
        "convolutions": (flat, classes(12, 2, 6, 6, count=4, batch=7), {n: (readers[n], s) for n, s in sizes.items()}),
    }


class Placed(nn.Module):
    """Samples along the second axis of what is given, then along the last, then inside positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        columns = torch.tanh(self.first.weight @ x.transpose(1, 2) + self.first.bias[:, None])
        flat = torch.tanh(self.second(columns.transpose(1, 2).flatten(0, 1)))
        return self.third(flat).reshape(len(x), -1, 3).mean(0)


def doubled(data: list[Any]) -> list[Any]:
    return [(x.double(), t) for x, t in data]


@pytest.mark.parametrize("name", ["mlp", "convolutions"])
def test_exact_is_the_plain_loop(name: str) -> None:
    model, data, readers = networks()[name]
    data = doubled(data)
    remove = sum(size - 1 for _, size in readers.values())
    expected = plain_loop(model, data, readers, remove)
    found = dh.oracle(model, data, loss="cross_entropy")
    assert found.order == expected.order
    assert found.losses == pytest.approx(expected.losses, rel=1e-12)
    assert found.passes >= remove
    plan = found.plan(3)
    assert plan.order == expected.order[:3]


@pytest.mark.parametrize("name", ["mlp", "convolutions"])
def test_a_race_that_may_not_err_is_the_exact_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = networks()[name]
    exact = dh.oracle(model, doubled(data), loss="cross_entropy")
    monkeypatch.setattr(races, "MINIMUM_SAMPLES", 10**6)
    race = dh.oracle(model, doubled(data), loss="cross_entropy", exact=False, tolerance=0.0)
    assert race.order == exact.order
    assert race.losses == pytest.approx(exact.losses, rel=1e-12)
    assert race.passes == pytest.approx(exact.passes - len(exact.order) + 1), "intact losses are known from the winner"


def test_batches_tried_at_the_same_time_give_the_same_result_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = networks()["convolutions"]
    alone = dh.oracle(model, data, loss="cross_entropy", remove=6)
    threads: set[int] = set()
    closing = Stacked.closing

    def watched(self: Stacked, name: str, units: list[int]) -> Tensor:
        threads.add(threading.get_ident())
        return closing(self, name, units)

    monkeypatch.setattr(Stacked, "closing", watched)
    together = dh.oracle(model, data, loss="cross_entropy", remove=6, workers=2)
    assert together == alone
    assert threading.get_ident() not in threads
    assert threads


def test_a_race_counts_the_losses_that_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = networks()["mlp"]
    computed = []
    asked = races.Loss.per_sample

    def counted(self: races.Loss, outputs: Any, batch: Any) -> Tensor:
        computed.append(batch.rows)
        return asked(self, outputs, batch)

    monkeypatch.setattr(races.Loss, "per_sample", counted)
    found = dh.oracle(model, doubled(data), loss="cross_entropy", exact=False, remove=6)
    assert sum(computed) == pytest.approx(found.passes * sum(len(x) for x, _ in data))


def test_work_is_counted_in_forward_passes() -> None:
    model, data, _ = networks()["mlp"]
    found = dh.oracle(model, doubled(data), loss="cross_entropy", remove=1)
    whole = 3 * 7 + 7 * 5 + 5 * 3
    assert found.work == pytest.approx(1 + (7 * (5 + 5 * 3) + 5 * 3) / whole), "a column each, and what lies behind"
    race = dh.oracle(model, doubled(data), loss="cross_entropy", exact=False, remove=1)
    assert race.work > 1


def test_units_one_by_one_give_the_same_race(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = networks()["convolutions"]
    together = dh.oracle(model, doubled(data), loss="cross_entropy", exact=False, remove=8)
    monkeypatch.setattr(races.ClosingLosses, "_stacks", lambda self, name: False)
    alone = dh.oracle(model, doubled(data), loss="cross_entropy", exact=False, remove=8)
    assert alone.order == together.order
    assert alone.losses == pytest.approx(together.losses, rel=1e-10)
    assert alone.passes > together.passes


def test_a_race_chooses_samples_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [(x.double().transpose(0, 1), y) for x, y in classes(40, 4, 3, count=3, batch=16)]
    network = dh.trace(unit_gain(Placed()), data[0][0], batch_axis=1)
    stacks = []
    asked = races.ClosingLosses._stacks
    monkeypatch.setattr(races.ClosingLosses, "_stacks", lambda *args: stacks.append(asked(*args)) or stacks[-1])
    together = dh.oracle(network, data, loss="cross_entropy", exact=False, remove=8)
    assert stacks
    assert all(stacks)
    monkeypatch.setattr(races.ClosingLosses, "_stacks", lambda self, name: False)
    alone = dh.oracle(network, data, loss="cross_entropy", exact=False, remove=8)
    assert alone.order == together.order
    assert alone.losses == pytest.approx(together.losses, rel=1e-10)


def test_rows_are_drawn_as_often_as_said_and_the_estimate_is_unbiased() -> None:
    generator, times = torch.Generator().manual_seed(0), 4000
    size = torch.rand(1, 60, generator=generator, dtype=torch.float64) ** 4 + 1e-3
    values = size * (1 + 0.3 * torch.randn(60, generator=generator, dtype=torch.float64))
    everything = torch.arange(60)[None]
    odds = size.log()
    low, high = -50.0, 50.0
    for _ in range(100):  # min(1, k size) sums up to 20, by bisection of log k
        middle = (low + high) / 2
        low, high = (middle, high) if (odds + middle).exp().clamp(max=1).sum() < 20 else (low, middle)
    expected = (odds + low).exp().clamp(max=1)[0]
    assert (expected == 1).any()
    ranks = torch.rand(times, 60, generator=generator, dtype=torch.float64)
    rows = (ranks / size).topk(20, largest=False).indices
    chance = races.inclusion(size.expand(times, 60), rows)
    assert torch.allclose(chance, expected[rows])
    drawn = rows.flatten().bincount(minlength=60) / times
    assert (drawn - expected).abs().max() < 0.08, "order sampling draws nearly as often as said"
    total, error, free = races.horvitz_thompson(values.expand(times, 60).gather(1, rows), chance)
    assert torch.equal(free, (chance < 1).sum(1))
    spread = total.std().item()
    assert total.mean().item() == pytest.approx(values.sum().item(), abs=0.2 * spread)
    assert error.square().mean().sqrt().item() == pytest.approx(spread, rel=0.2)
    whole = races.inclusion(size, everything)
    assert [each.item() for each in races.horvitz_thompson(values, whole)] == [pytest.approx(values.sum().item()), 0, 0]


def test_a_race_takes_fewer_passes_and_stays_near() -> None:
    torch.manual_seed(0)
    model = mlp(3, 30, 20, 3)
    data = classes(2000, 3, count=3)
    exact = dh.oracle(model, data, loss="cross_entropy", remove=25)
    race = dh.oracle(model, data, loss="cross_entropy", remove=25, exact=False)
    assert race.passes < 0.25 * exact.passes
    apart = [abs(a - b) / b for a, b in zip(race.losses, exact.losses, strict=True)]
    assert sum(apart) / len(apart) < 0.05
    gates = Gates(dh.trace(model, data[0][0]), as_loss("cross_entropy"))
    after = gates.loss(race.plan(25).alpha(gates.network.groups), as_batch(data[0])).mean()
    assert race.losses[-1] == pytest.approx(float(after), rel=1e-5), "its losses are measured, not estimated"


@pytest.mark.parametrize("exact", [True, False])
def test_a_run_that_was_stopped_goes_on_with_the_same_result(exact: bool, tmp_path: Path) -> None:
    model, data = mlp(3, 7, 5, 3).double(), classes(120, 3, count=3, batch=50)  # rows enough for a race to draw some
    options: dict[str, Any] = {"loss": "cross_entropy", "exact": exact, "seed": 3}
    whole = dh.oracle(model, doubled(data), remove=8, **options)
    path = tmp_path / "state"

    class StopError(Exception):
        pass

    def stop(step: str, done: int, total: int) -> None:
        if step == "oracle" and done == 4:
            raise StopError

    with pytest.raises(StopError):
        dh.oracle(model, doubled(data), remove=8, checkpoint=path, progress=stop, **options)
    assert path.exists()
    again = dh.oracle(model, doubled(data), remove=8, checkpoint=path, **options)
    assert again == whole
    assert [each.name for each in tmp_path.iterdir()] == ["state"]
    done = dh.oracle(model, doubled(data), remove=8, checkpoint=path, **options)
    assert done == whole


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    model, data, _ = networks()["mlp"]
    path = tmp_path / "state"
    dh.oracle(model, doubled(data), loss="cross_entropy", remove=2, checkpoint=path)
    with pytest.raises(dh.DataError, match="is of another run"):
        dh.oracle(model, doubled(data), loss="cross_entropy", exact=False, remove=2, checkpoint=path)
    with torch.no_grad():
        model[-1].bias[0] += 0.1
    with pytest.raises(dh.DataError, match="is of another run"):
        dh.oracle(model, doubled(data), loss="cross_entropy", remove=2, checkpoint=path)
    path.write_text("something else")
    with pytest.raises(dh.DataError, match="holds no state of an oracle"):
        dh.oracle(model, doubled(data), loss="cross_entropy", remove=2, checkpoint=path)


def test_what_cannot_be_asked_is_refused() -> None:
    model, data, _ = networks()["mlp"]
    with pytest.raises(dh.BudgetError, match="between 1 and 10 can be removed"):
        dh.oracle(model, doubled(data), loss="cross_entropy", remove=11)
    with pytest.raises(dh.DataError, match="workers=0"):
        dh.oracle(model, doubled(data), loss="cross_entropy", workers=0)
    with pytest.raises(dh.DataError, match="confidence"):
        dh.oracle(model, doubled(data), loss="cross_entropy", exact=False, confidence=1.0)


def test_a_share_of_the_units_of_some_groups() -> None:
    model, data, _ = networks()["mlp"]
    found = dh.oracle(model, doubled(data), loss="cross_entropy", remove=0.5, only="2")
    assert len(found.order) == round(0.5 * 5)
    assert {name for name, _ in found.order} == {"2"}
