"""What scores promise of any network: random depths, widths, activations, losses and data, in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deadhead as dh
from deadhead.graph.network import Network
from deadhead.scores import CRITERIA
from deadhead.scores.criterion import REFERENCES
from support.networks import unit_gain
from support.quick import each_of

Data = list[tuple[Tensor, Tensor]]
Scores = dict[str, Tensor]

SMOOTH: tuple[type[nn.Module], ...] = (nn.Tanh, nn.Sigmoid, nn.GELU)
ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, *SMOOTH)
CERTIFIED = ("cross_entropy", "binary_cross_entropy")
LOSSES = (*CERTIFIED, "squared_error")
RTOL = 1e-9
ATOL = 1e-13
"""The losses are about one, so that differences of them are rounded at 1e-16; no score that is of use is this small."""


def examples(count: int) -> settings:
    """The same examples in every run; the first of a network waits for its trace."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


def promise(count: int, quick: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A test that draws its arguments `count` times, of which `quick` times suffice for `make test`."""

    def decorate(check: Callable[..., None]) -> Any:
        @pytest.mark.parametrize("drawn", each_of((quick, count), (quick,)))
        def test(drawn: int) -> None:
            examples(drawn)(given(**strategies)(check))()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


@dataclass(frozen=True)
class Architecture:
    """Hidden layers of these widths, of which the first `convolutions` are convolutions: from 3 inputs, or from maps of
    2 x 4 x 4, which are flattened or averaged before the first linear layer."""

    widths: tuple[int, ...]
    convolutions: int
    padding: int
    pooled: bool
    activation: type[nn.Module]
    outputs: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, 4, 4) if self.convolutions else (3,)

    def make(self) -> nn.Sequential:
        modules: list[nn.Module] = []
        channels, side = self.shape[0], 4
        columns = 1
        for depth, width in enumerate((*self.widths, self.outputs)):
            if depth < self.convolutions:
                modules.append(nn.Conv2d(channels, width, 2, padding=self.padding))
                side += 2 * self.padding - 1
                columns = 1 if self.pooled else side**2
            else:
                if depth == self.convolutions > 0:
                    modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if self.pooled else [nn.Flatten()]
                modules.append(nn.Linear(channels * columns, width))
                columns = 1
            modules.append(self.activation())
            channels = width
        return nn.Sequential(*modules[:-1])


@dataclass(frozen=True)
class Case:
    """A network with the weights of a seed, a loss, and as many rows of data by the same seed."""

    architecture: Architecture
    loss: str
    rows: int
    seed: int

    @property
    def criteria(self) -> list[str]:
        """All criteria that this loss has an answer for, but random and what training recorded."""
        return [
            name
            for name in CRITERIA
            if name not in ("random", "gradient") and (name != "certificate" or self.loss in CERTIFIED)
        ]

    def generator(self, stream: int) -> torch.Generator:
        """Random numbers of this case; stream 0 makes the weights, and the same numbers as inputs would match them."""
        return torch.Generator().manual_seed(10**7 * stream + self.seed)

    def targets(self) -> Tensor:
        size, generator = (self.rows, self.architecture.outputs), self.generator(1)
        if self.loss == "cross_entropy":
            return torch.randint(size[1], size[:1], generator=generator)
        drawn = torch.randn(size, generator=generator, dtype=torch.float64)
        return drawn if self.loss == "squared_error" else (drawn > 0).double()

    def inputs(self) -> Tensor:
        return torch.randn(self.rows, *self.architecture.shape, generator=self.generator(2), dtype=torch.float64)

    def data(self) -> Data:
        return [(self.inputs(), self.targets())]


@st.composite
def cases(
    draw: st.DrawFn,
    activations: Sequence[type[nn.Module]] = ACTIVATIONS,
    losses: Sequence[str] = LOSSES,
    padding: Sequence[int] = (0, 1),
) -> Case:
    widths = draw(st.lists(st.integers(2, 7), min_size=1, max_size=3))
    architecture = Architecture(
        widths=tuple(widths),
        convolutions=draw(st.integers(0, len(widths))),
        padding=draw(st.sampled_from(padding)),
        pooled=draw(st.booleans()),
        activation=draw(st.sampled_from(activations)),
        outputs=draw(st.integers(2, 4)),
    )
    return Case(architecture, draw(st.sampled_from(losses)), draw(st.integers(4, 12)), draw(st.integers(0, 10**6)))


NETWORKS: dict[Architecture, tuple[nn.Sequential, Network]] = {}


def network_of(case: Case) -> tuple[nn.Sequential, Network]:
    """The model and network of a case: traced once for each architecture, with the weights drawn anew."""
    known = case.architecture
    if known not in NETWORKS:
        model = known.make().double().eval()
        NETWORKS[known] = model, dh.trace(model, case.data()[0][0])
        assert [group.size for group in NETWORKS[known][1].groups] == list(known.widths)
    unit_gain(NETWORKS[known][0], case.seed)
    return NETWORKS[known]


def layers_of(model: nn.Sequential) -> list[nn.Linear | nn.Conv2d]:
    return [module for module in model if isinstance(module, (nn.Linear, nn.Conv2d))]


def read_by_unit(following: nn.Linear | nn.Conv2d, size: int) -> Tensor:
    """A view of the weight by which a layer reads units, (outputs, units, ...): a unit may have several columns."""
    return following.weight.detach().view(len(following.weight), size, -1)


def asked(
    network: Network,
    case: Case,
    criteria: Iterable[str],
    data: Data | None = None,
    reference: str = "zero",
    absolute: bool = False,
) -> dict[str, Scores]:
    """The scores by each criterion."""
    blank = torch.full((1, *case.architecture.shape), 0.3, dtype=torch.float64)
    return {
        name: dh.score(
            network,
            case.data() if data is None else data,
            loss=case.loss,
            criterion=name,
            reference=reference,
            baseline=blank,
            absolute=absolute,
        )
        for name in criteria
    }


def decade(value: float) -> str:
    """The power of ten below a value, for `event`."""
    return "nothing" if value <= 0 else f"{10.0 ** math.floor(math.log10(value)):g}"


def assert_same(found: dict[str, Scores], expected: dict[str, Scores]) -> None:
    assert {name: list(scores) for name, scores in found.items()} == {name: list(expected[name]) for name in found}
    torch.testing.assert_close(found, expected, rtol=RTOL, atol=ATOL)


# -- mean replacement ------------------------------------------------------------------------------------------------


@promise(30, 6, case=cases(activations=SMOOTH, padding=(0,)))
def test_mrs_tends_to_mrp_as_deviations_shrink(case: Case) -> None:
    """The relative gap is t p(t), p smooth where no row's change turns its sign. A parabola through p at h, 2 h and 4 h
    is at 0 at most 5 times the largest of them, so that at h / 100 the gap is at most a twentieth of the largest."""
    _, network = network_of(case)
    # A centre that is the same for all rows and positions: without padding, every unit is constant at t = 0.
    channels, *positions = case.architecture.shape
    centre = torch.randn(channels, *[1] * len(positions), generator=case.generator(3), dtype=torch.float64)
    gaps = {}
    for t in (0.08, 0.04, 0.02, 0.0002):
        found = asked(network, case, ("mrs", "mrp"), [(centre + t * case.inputs(), case.targets())])
        mrs, mrp = (torch.cat(list(found[name].values())) for name in ("mrs", "mrp"))
        gaps[t] = (mrs - mrp).abs() / mrp
        rounding = 1e-14 * case.rows / mrp
    counted = mrp > 1e-10
    assume(counted.any())
    *wide, narrow = gaps.values()
    widest = torch.stack(wide).amax(0)
    event(f"the widest gap is above {decade(widest[counted].max().item())}")
    assert (narrow <= widest / 20 + rounding)[counted].all()


@promise(30, 6, case=cases(), where=st.integers(0, 2), unit=st.integers(0, 6))
def test_a_constant_unit_costs_nothing(case: Case, where: int, unit: int) -> None:
    model, network = network_of(case)
    widths = case.architecture.widths
    where %= len(widths)
    unit %= widths[where]
    maker = layers_of(model)[where]
    assert maker.bias is not None
    with torch.no_grad():
        maker.weight[unit] = 0
        maker.bias[unit] = 0.8
    criteria = [name for name in ("mrp", "mrs", "certificate") if name in case.criteria]
    for scores in asked(network, case, criteria).values():
        of_group = list(scores.values())[where]
        others = torch.cat([of_group[:unit], of_group[unit + 1 :]])
        assert of_group[unit] <= 1e-12 * others.max() + ATOL
        if case.architecture.activation is not nn.ReLU:
            assert (others > 1e-7 * others.max()).all()
            assert others.max() > 1e-7


# -- certificates ----------------------------------------------------------------------------------------------------


def tightness(network: Network, data: Data, loss: str) -> Tensor:
    """How much of its certificate each unit takes, for those that have one; none may take more than all of it."""
    rows = sum(len(inputs) for inputs, _ in data)
    measured, bounds = (
        torch.cat(list(dh.score(network, data, loss=loss, criterion=name).values())) for name in ("mrp", "certificate")
    )
    assert (measured / rows <= bounds * (1 + 1e-12) + 1e-14).all()
    return (measured / rows / bounds)[bounds > 1e-9]


@pytest.mark.parametrize("drawn", each_of((12, 60), (12,)))
def test_no_unit_does_more_than_its_certificate(drawn: int) -> None:
    found: list[Tensor] = []

    @examples(drawn)
    @given(
        case=cases(losses=CERTIFIED), gain=st.sampled_from((0.1, 0.5, 1.0, 2.0, 4.0)), scale=st.sampled_from((0.1, 1.0))
    )
    def holds(case: Case, gain: float, scale: float) -> None:
        model, network = network_of(case)
        with torch.no_grad():
            for layer in layers_of(model):
                layer.weight.mul_(gain)
        ((inputs, targets),) = case.data()
        found.append(tightness(network, [(scale * inputs, targets)], case.loss))
        if len(found[-1]):
            event(f"some unit takes more than {decade(found[-1].max().item())} of its certificate")

    holds()
    taken = torch.cat(found)
    print(f"of their certificates units take {taken.median():.3g} in the median, {taken.max():.3g} at most")
    assert taken.max() > 0.1, "bounds that are far off hold of wrong constants too"
    assert taken.median() > 1e-3


@pytest.mark.parametrize("convolutions", [0, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_unit_of_a_trained_network_does_more_than_its_certificate(
    activation: type[nn.Module], convolutions: int
) -> None:
    case = Case(Architecture((6, 5, 4), convolutions, 1, False, activation, 3), "cross_entropy", 12, 0)
    ((inputs, targets),) = data = case.data()
    model = unit_gain(case.architecture.make())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], "it learns its rows"
    taken = tightness(dh.trace(model, inputs), data, case.loss)
    print(f"of their certificates units take {taken.median():.3g} in the median, {taken.max():.3g} at most")
    assert taken.max() > 1e-4


# -- symmetries ------------------------------------------------------------------------------------------------------


@promise(30, 6, case=cases(), reference=st.sampled_from(REFERENCES))
def test_permuted_units_have_permuted_scores(case: Case, reference: str) -> None:
    model, network = network_of(case)
    before = asked(network, case, case.criteria, reference=reference)
    generator = case.generator(3)
    orders = [torch.randperm(width, generator=generator) for width in case.architecture.widths]
    with torch.no_grad():
        for (layer, following), order in zip(itertools.pairwise(layers_of(model)), orders, strict=True):
            assert layer.bias is not None
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
            read = read_by_unit(following, len(order))
            read.copy_(read[:, order])
    after = asked(network, case, case.criteria, reference=reference)
    expected = {
        name: {group: value[order] for (group, value), order in zip(scores.items(), orders, strict=True)}
        for name, scores in before.items()
    }
    assert_same(after, expected)


@promise(30, 6, case=cases(), cuts=st.sets(st.integers(1, 11), min_size=1), reference=st.sampled_from(REFERENCES))
def test_scores_do_not_depend_on_how_rows_are_ordered_and_batched(case: Case, cuts: set[int], reference: str) -> None:
    _, network = network_of(case)
    ((inputs, targets),) = whole = case.data()
    order = torch.randperm(case.rows, generator=case.generator(3))
    parts = [part for part in order.tensor_split(sorted(cuts)) if len(part)]
    batches = [(inputs[part], targets[part]) for part in parts]
    names = [name for name in case.criteria if name != "obs"]  # it draws a target for each row in turn
    expected = asked(network, case, names, whole, reference)
    assert_same(asked(network, case, names, batches, reference), expected)


@pytest.mark.parametrize("drawn", each_of((9, 15), (9,)))
def test_absolute_scores_are_the_absolute_values_of_signed_ones(drawn: int) -> None:
    negative: set[str] = set()

    @examples(drawn)
    @given(case=cases(), reference=st.sampled_from(REFERENCES))
    def holds(case: Case, reference: str) -> None:
        _, network = network_of(case)
        names = [*case.criteria, "random"]
        signed, absolute = (asked(network, case, names, reference=reference, absolute=each) for each in (False, True))
        for criterion, scores in signed.items():
            assert list(absolute[criterion]) == list(scores)
            assert all(torch.equal(absolute[criterion][group], value.abs()) for group, value in scores.items())
            if any((value < 0).any() for value in scores.values()):
                negative.add(criterion)

    holds()
    assert negative >= {"oracle", "taylor1", "taylor2", "taylor2_exact", "taylor2_gauss_newton", "activation_mean"}


SCALE_FREE = (
    "oracle", "taylor1", "taylor2", "taylor2_exact", "taylor2_gauss_newton", "mrs", "mrp", "zeros",
)  # fmt: skip
"""What depends on the function that a network computes and on where its units are, not on their scale."""


@promise(
    30,
    6,
    case=cases(activations=(nn.ReLU,)),
    reference=st.sampled_from(REFERENCES),
    where=st.integers(0, 2),
    unit=st.integers(0, 6),
    factor=st.floats(0.05, 20),
)
def test_what_units_cost_does_not_depend_on_their_scale(
    case: Case, reference: str, where: int, unit: int, factor: float
) -> None:
    model, network = network_of(case)
    where %= len(case.architecture.widths)
    width = case.architecture.widths[where]
    unit %= width
    before = asked(network, case, SCALE_FREE, reference=reference)
    maker, reader = layers_of(model)[where : where + 2]
    assert maker.bias is not None
    with torch.no_grad():
        maker.weight[unit] *= factor
        maker.bias[unit] *= factor
        read_by_unit(reader, width)[:, unit] /= factor
    assert_same(asked(network, case, SCALE_FREE, reference=reference), before)
