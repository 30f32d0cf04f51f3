"""Training after a cut: what is lowered, what is never trained on, which weights come back, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deadhead as dh
from deadhead.data.calibration import as_batch
from deadhead.data.losses import as_loss
from deadhead.training.recovering.objective import distillation
from deadhead.training.recovering.recover import recover
from support.snapshot import bits, facts_of, same

INPUTS = torch.randn(120, 4, generator=torch.Generator().manual_seed(1))
TARGETS = (INPUTS[:, 0] + 0.5 * INPUTS[:, 1] > 0).long()
DATA = (INPUTS, TARGETS)


def network(hidden: int = 8, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, 2))


class Recorded(nn.Module):
    """A linear model that remembers each sample it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.trained_on: list[Tensor] = []
        self.measured_on: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        (self.trained_on if self.training else self.measured_on).extend(x.detach())
        return self.layer(x)

    def places(self, rows: list[Tensor]) -> list[int]:
        """The places in `INPUTS` of recorded samples."""
        return [int((row == INPUTS).all(1).nonzero()) for row in rows]


# --- what is lowered


def test_distillation_of_classes_is_the_divergence_worked_by_hand() -> None:
    """o* = (ln 9, 0), o = (0, 0), T = 2: softened predictions (3/4, 1/4) and (1/2, 1/2)."""
    like = torch.tensor([[math.log(9.0), 0.0]], dtype=torch.float64)
    own = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    batch = as_batch((torch.zeros(1, 3), torch.tensor([1])))
    value = distillation(own, like, batch, as_loss("cross_entropy"), 2.0)
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    torch.testing.assert_close(value, torch.tensor([expected], dtype=torch.float64), rtol=1e-14, atol=0)
    value.sum().backward()  # T (softmax(o / T) - softmax(o* / T))
    torch.testing.assert_close(own.grad, torch.tensor([[-0.5, 0.5]], dtype=torch.float64), rtol=1e-14, atol=0)


def plain_divergence(own: Tensor, like: Tensor, temperature: float) -> float:
    """T^2 sum p ln(p / q) of two vectors of logits, by a loop."""
    p, q = ((each / temperature).exp() / (each / temperature).exp().sum() for each in (like, own))
    return temperature**2 * sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True))


POSITIONS = torch.tensor([[0, 1, -100], [2, 2, 1]])


@pytest.mark.parametrize(
    ("loss", "labels"), [("cross_entropy", POSITIONS), ("cross_entropy", None), ("model", POSITIONS)]
)
def test_distillation_of_positions_is_their_mean_where_labels_count(loss: str, labels: Tensor | None) -> None:
    generator = torch.Generator().manual_seed(0)
    own, like = (torch.randn(2, 3, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    raw = {"x": torch.zeros(2, 3)} | ({} if labels is None else {"labels": labels})
    found = distillation({"loss": torch.ones(()), "logits": own}, {"logits": like}, as_batch(raw), as_loss(loss), 3.0)
    for sample in range(2):
        counted = [t for t in range(3) if labels is None or labels[sample, t] != -100]
        expected = sum(plain_divergence(own[sample, t], like[sample, t], 3.0) for t in counted) / len(counted)
        assert math.isclose(float(found[sample]), expected, rel_tol=1e-12)


def test_other_outputs_are_met_by_squares_all_of_them_for_a_callable() -> None:
    own = {"a": torch.tensor([[1.0, 2.0]]), "b": (torch.tensor([3.0]), "text"), "loss": torch.tensor([9.0])}
    like = {"a": torch.tensor([[0.0, 0.0]]), "b": (torch.tensor([1.0]), "text"), "loss": torch.tensor([0.0])}
    batch = as_batch((torch.zeros(1, 1), torch.zeros(1, 2)))
    by_callable = distillation(own, like, batch, as_loss(lambda outputs, batch: outputs["a"]), 4.0)
    assert by_callable.tolist() == [(2.5 + 4.0) / 2]
    assert distillation(own["a"], like["a"], batch, as_loss("mse"), 4.0).tolist() == [2.5]
    with pytest.raises(dh.LossError, match="no tensor of equal shape"):
        distillation(torch.zeros(1, 2), torch.zeros(1, 3), batch, as_loss(lambda outputs, batch: outputs), 1.0)
    with pytest.raises(dh.LossError, match="cannot be compared class by class"):
        distillation(torch.zeros(1, 2), torch.zeros(1, 3), batch, as_loss("cross_entropy"), 1.0)


def test_one_epoch_on_labels_is_plain_sgd_on_the_samples_that_are_not_held_out() -> None:
    model = Recorded().double()
    weight, bias = (p.detach().clone().requires_grad_() for p in model.parameters())
    inputs = INPUTS.double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recover(model, (inputs, TARGETS), epochs=2, optimizer=optimizer, schedule="linear", batch_size=27, held_out=0)
    places = [int((inputs == row).all(1).nonzero()) for row in model.trained_on]
    assert [sorted(places[:120]), sorted(places[120:])] == [list(range(120))] * 2
    assert places[:120] != places[120:]
    for epoch in range(2):
        for step, rows in enumerate(torch.tensor(places[120 * epoch : 120 * (epoch + 1)]).split(27)):
            loss = F.cross_entropy(inputs[rows] @ weight.T + bias, TARGETS[rows])
            gradients = torch.autograd.grad(loss, (weight, bias))
            rate = 0.1 * (1 - (epoch + step / 5) / 2)
            with torch.no_grad():
                for parameter, gradient in zip((weight, bias), gradients, strict=True):
                    parameter -= rate * gradient
    torch.testing.assert_close(model.layer.weight, weight, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(model.layer.bias, bias, rtol=1e-12, atol=1e-14)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_distillation_needs_no_labels_and_meets_the_intact_network() -> None:
    intact, model = network(16, seed=2).double(), network(4, seed=3).double()
    facts = facts_of(intact)
    recovered = recover(model, INPUTS.double(), epochs=25, targets="intact", intact=intact, lr=0.02)
    assert recovered.best.held_out_loss < 0.3 * recovered.history[0].held_out_loss
    assert recovered.best.accuracy is None
    assert facts_of(intact) == facts


def test_gradients_are_clipped_together() -> None:
    model = Recorded()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    recover(model, DATA, epochs=1, optimizer=optimizer, clip=1e-3, batch_size=120, held_out=0)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert math.isclose(float(moved.norm()), 1e-3, rel_tol=1e-3)


def test_an_optimizer_that_needs_a_closure_trains() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.5, max_iter=3)
    recovered = recover(model, DATA, epochs=3, optimizer=optimizer, batch_size=120)
    assert recovered.best.held_out_loss < 0.8 * recovered.history[0].held_out_loss


def test_what_a_hook_of_the_optimizer_keeps_at_zero_is_zero_in_the_result() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[::2] = 0
    optimizer = torch.optim.AdamW(model.parameters(), 0.02)
    optimizer.register_step_post_hook(lambda *_: model[0].weight.data[::2].zero_())
    recovered = recover(model, DATA, epochs=3, optimizer=optimizer)
    assert recovered.best_epoch > 0
    assert not model[0].weight[::2].any()
    assert model[0].weight[1::2].all()


# --- what is held out


class Stream:
    """Batches that can be read again, without indices."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(INPUTS[:60], TARGETS[:60]), (INPUTS[60:], TARGETS[60:])])


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*DATA), **{"batch_size": 16, "shuffle": True, **options})


GIVEN = {
    "tensors": lambda: DATA,
    "list": lambda: [(INPUTS[:70], TARGETS[:70]), (INPUTS[70:], TARGETS[70:])],
    "iterator": lambda: iter([(INPUTS[:70], TARGETS[:70]), (INPUTS[70:], TARGETS[70:])]),
    "loader": loader,
    "data set": lambda: TensorDataset(*DATA),
    "own generator": lambda: loader(generator=torch.Generator().manual_seed(3)),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_held_out_samples_are_never_trained_on_and_all_others_are_in_every_epoch(kind: str) -> None:
    model = Recorded()
    recover(model, GIVEN[kind](), epochs=2, held_out=0.25, seed=4)
    trained, measured = model.places(model.trained_on), model.places(model.measured_on)
    held = set(measured)
    assert len(held) == 30
    assert len(measured) == 3 * 30
    assert sorted(trained) == sorted(2 * [place for place in range(120) if place not in held])
    assert trained[:90] != trained[90:]
    again, other = Recorded(), Recorded()
    recover(again, GIVEN[kind](), epochs=2, held_out=0.25, seed=4)
    recover(other, GIVEN[kind](), epochs=1, held_out=0.25, seed=5)
    assert again.places(again.trained_on) == trained
    assert set(other.places(other.measured_on)) != held


def test_held_out_data_of_ones_own_is_what_is_measured() -> None:
    model = Recorded()
    recovered = recover(model, Stream(), epochs=2, held_out=[(INPUTS[:10], TARGETS[:10])], lr=0.1)
    assert model.places(model.measured_on) == 3 * list(range(10))
    assert sorted(model.places(model.trained_on)) == sorted(2 * list(range(120)))
    with torch.no_grad():
        logits = model.layer(INPUTS[:10])
    assert math.isclose(float(F.cross_entropy(logits, TARGETS[:10])), recovered.best.held_out_loss, rel_tol=1e-6)
    assert recovered.best.accuracy == pytest.approx(float((logits.argmax(1) == TARGETS[:10]).float().mean()))


def test_a_loader_and_its_generator_are_as_before() -> None:
    generator = torch.Generator().manual_seed(3)
    state, data = generator.get_state(), loader(generator=generator)
    sampler = data.batch_sampler
    recover(network(), data, epochs=1)
    assert torch.equal(generator.get_state(), state)
    assert data.batch_sampler is sampler


def test_batches_of_unequal_lengths_and_of_a_single_rest_are_trained_on() -> None:
    class Means(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.mean(1))

    data = [(torch.randn(17, length, 4), torch.randint(2, (17,))) for length in (3, 5)]
    recovered = recover(Means(), data, epochs=1, batch_size=8, held_out=0)
    assert recovered.history[1].train_loss is not None


# --- which weights come back


def test_the_best_epoch_comes_back_and_patience_ends_training() -> None:
    """From the third epoch on, steps go up the slope."""
    model = network()
    kept = []

    def schedule(part: float) -> float:
        kept.append((part, [bits(p) for p in model.state_dict().values()]))
        return 1.0 if part < 0.2 else -3.0

    recovered = recover(model, DATA, epochs=10, lr=0.01, schedule=schedule, patience=3, batch_size=120)
    assert recovered.best_epoch == 2
    assert len(recovered.history) == 6
    assert "has not been lower than after epoch 2 for 3 epochs" in str(recovered)
    assert kept[2][0] == 0.2
    assert [bits(p) for p in model.state_dict().values()] == kept[2][1], "the weights before the third epoch"
    assert recovered.best.held_out_loss == min(epoch.held_out_loss for epoch in recovered.history)


def test_the_network_before_training_comes_back_where_no_epoch_is_better() -> None:
    model = network()
    recover(model, DATA, epochs=10, lr=0.02)
    before = [bits(p) for p in model.state_dict().values()]
    recovered = recover(model, DATA, epochs=2, lr=0.02, schedule=lambda part: -1.0)
    assert recovered.best_epoch == 0
    assert [bits(p) for p in model.state_dict().values()] == before
    assert "the network before training" in str(recovered)


@pytest.mark.parametrize("held_out", [0.1, 0])
def test_a_loss_that_is_not_finite_ends_training_with_the_best_weights(held_out: float) -> None:
    model = Recorded()

    def loss(outputs: Tensor, batch: Any) -> Tensor:
        values = F.cross_entropy(outputs, batch[1], reduction="none")
        return values * float("nan") if model.training and len(model.trained_on) > 300 else values

    recovered = recover(model, DATA, epochs=5, loss=loss, lr=0.01, held_out=held_out)
    assert recovered.stopped.startswith("Training stopped in epoch 3: the training loss is not finite")  # type: ignore[union-attr]
    assert recovered.stopped in str(recovered)
    assert (len(recovered.history), recovered.best_epoch) == (3, 2)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_modes_rates_and_random_state_are_as_before_and_gradients_are_none() -> None:
    model = network()
    model[1].eval()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    model(INPUTS).sum().backward()
    state = torch.get_rng_state()
    recover(model, DATA, epochs=1, optimizer=optimizer, lr=0.5, schedule="cosine")
    assert [each.training for each in model.modules()] == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_error_leaves_network_and_optimizer_as_they_were() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    before = facts_of(model)

    def interrupted(step: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(model, DATA, epochs=5, optimizer=optimizer, lr=0.1, progress=interrupted)
    assert facts_of(model) == before
    assert (len(optimizer.state), optimizer.param_groups[0]["lr"]) == (0, 0.01)


# --- with a prune


def test_a_prune_is_recovered_by_its_own_loss_and_optimizer() -> None:
    model = network(32)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    recover(model, DATA, epochs=4, optimizer=optimizer)
    data = [(INPUTS, TARGETS)]
    pruned = dh.prune(model, data, loss="cross_entropy", units=0.1, compensate="zero", optimizer=optimizer, curve=0)
    steps = {int(state["step"]) for state in pruned.optimizer.state.values()}  # type: ignore[union-attr]
    recovered = recover(pruned, DATA, epochs=3)
    assert (recovered.model, recovered.pruned) == (pruned.model, pruned)
    assert recovered.best.held_out_loss < recovered.history[0].held_out_loss
    assert {int(state["step"]) for state in pruned.optimizer.state.values()} == {step + 6 for step in steps}  # type: ignore[union-attr]
    loose = dh.prune(model, data, loss=lambda o, b: F.cross_entropy(o, b[1], reduction="none"), units=0.5, curve=0)
    with pytest.raises(dh.DataError, match="loss= is needed"):
        recover(loose, DATA, epochs=1)


@pytest.mark.parametrize("targets", ["labels", "intact"])
def test_a_model_of_hugging_face_is_recovered_on_its_own_batches(targets: str) -> None:
    transformers = pytest.importorskip("transformers")
    configuration = transformers.BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(transformers.BertForSequenceClassification(configuration))
    words = torch.randint(11, (40, 6))
    data = [
        {"input_ids": part, "attention_mask": torch.ones_like(part), "labels": part[:, 0] % 3}
        for part in words.split(10)
    ]
    options = {"targets": "intact", "intact": models[1]} if targets == "intact" else {}
    recovered = recover(models[0], data, epochs=10, loss="model", lr=0.01, batch_size=8, **options)
    assert recovered.best.held_out_loss < recovered.history[0].held_out_loss
    assert recovered.best.accuracy is not None


def test_it_prints_a_table_is_drawn_and_written_as_json() -> None:
    recovered = recover(network(), DATA, epochs=14, lr=0.01)
    lines = str(recovered).splitlines()
    assert lines[0].startswith("Sequential: the best of 14 epochs is epoch ")
    assert lines[1].split() == ["epoch", "training", "loss", "held-out", "loss", "accuracy", "seconds"]
    assert len(lines) <= 5
    assert '"number": 14' in recovered.to_json()
    assert len(recovered.figure().axes[0].lines) == 3


def test_progress_counts_the_batches_of_all_epochs() -> None:
    seen: list[tuple[str, int, int]] = []
    recover(network(), DATA, epochs=2, batch_size=27, held_out=0.1, progress=lambda *event: seen.append(event))
    assert [done for _, done, _ in seen] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert {(step, total) for step, _, total in seen} == {("recover", 8)}


# --- what is refused

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no epochs": ({"epochs": 0}, "epochs=0 is out of range; give a number above 0"),
    "empty": ({"data": []}, "data holds no samples"),
    "emptied": ({"data": iter([])}, "data holds no samples"),
    "no intact": ({"targets": "intact"}, "needs intact=, the network before the cut"),
    "intact alone": ({"intact": network()}, 'is read with targets="intact" alone'),
    "targets": ({"targets": "outputs"}, "There are no targets 'outputs'"),
    "temperature": ({"temperature": 0.0}, "temperature=0 is out of range"),
    "schedule": ({"schedule": "cosin"}, "There is no schedule 'cosin'; the names are constant, linear, cosine"),
    "all held out": ({"data": (INPUTS[:1], TARGETS[:1])}, "leaves none to train on"),
    "held out": ({"held_out": 1.5}, "held_out=1.5 is no fraction"),
    "stream": ({"data": Stream()}, "cannot be held out from a Stream"),
    "patience": ({"patience": 2, "held_out": 0}, "patience= needs held-out samples"),
    "batch size": ({"data": loader(), "batch_size": 3}, "makes batches of its own"),
    "not finite": ({"data": (INPUTS / 0, TARGETS)}, "inputs that are not finite"),
    "optimizer": ({"optimizer": torch.optim.SGD(network().parameters(), 0.1)}, "holds no parameter of Sequential"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_refused_in_one_sentence(name: str) -> None:
    options, sentence = BAD[name]
    model, untouched = network(), network()
    with pytest.raises(dh.DataError, match=sentence):
        recover(model, **{"data": DATA, "epochs": 1, **options})
    assert same(model, untouched)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(dh.DataError, match="No parameter of Sequential requires a gradient"):
        recover(network().requires_grad_(False), DATA, epochs=1)
    with pytest.raises(dh.DataError, match="this is a str"):
        recover("model", DATA, epochs=1)  # type: ignore[arg-type]
    model = network()
    with pytest.raises(dh.DataError, match="shares parameters"):
        recover(model, DATA, epochs=1, targets="intact", intact=model)
