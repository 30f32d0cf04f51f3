"""The registry of compensations: how the remaining units take over for the removed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deadhead.data.calibration import Calibration
from deadhead.data.losses import Loss
from deadhead.errors import DataError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.progress import Progress
from deadhead.reconstruction.compensation import Compensation
from deadhead.registry import Entry, Registry
from deadhead.select.plan import Plan


@dataclass(frozen=True)
class Problem:
    """The input of a compensation: a network, a plan and data.

    Attributes:
        network: the intact network.
        groups: the groups that could be pruned.
        plan: the units that are removed.
        calibration: the samples to fit to (`fit`) and the held-out samples (`held_out`).
        loss: the loss of the outputs.
        seed: the seed of everything that is drawn at random.
        progress: what reports the work done; None for no reports.
        start: the compensation by another method, for methods that start from one.
    """

    network: Network
    groups: Sequence[Group]
    plan: Plan
    calibration: Calibration
    loss: Loss
    seed: int = 0
    progress: Progress | None = None
    start: Compensation | None = None

    @property
    def affected(self) -> list[Group]:
        """The groups that lose units."""
        return [group for group in self.groups if group.name in self.plan.removed]

    def state(self, compensation: Compensation | None = None) -> PrunedState:
        """The network after the plan and a compensation; None for no compensation."""
        return PrunedState.of(self.network, self.plan, compensation)


@dataclass(frozen=True)
class Method(Entry):
    """A registered compensation.

    Attributes:
        after: the name of the method that it starts from; None for the plan alone.
        adds_biases: whether it may give consumers without a bias a new one.
        front_to_back: whether it refits the consumers of one group after the other, so that units can be chosen in
            between.
    """

    after: str | None = None
    adds_biases: bool = True
    front_to_back: bool = False


COMPENSATIONS: Registry[Method] = Registry("compensation", "compensations", DataError)
Function = Callable[..., Compensation]


def compensation(
    name: str, *, after: str | None = None, adds_biases: bool = True, front_to_back: bool = False
) -> Callable[[Function], Function]:
    """Register a compensation: a function from a `Problem` to a `Compensation`, whose keywords are its options.

    Args:
        name: its name.
        after: the name of the method that it starts from; None for the plan alone.
        adds_biases: whether it may give consumers without a bias a new one.
        front_to_back: whether it refits the consumers of one group after the other.
    """

    def register(function: Function) -> Function:
        COMPENSATIONS.add(Method(name, function, after, adds_biases, front_to_back))
        return function

    return register


def compensate(problem: Problem, name: str = "least_squares", options: Mapping[str, Any] | None = None) -> Compensation:
    """New weights and biases for the consumers of removed units, by a registered method.

    Args:
        problem: the network, the plan and the data.
        name: the name of the method.
        options: the method's keywords.

    Raises:
        DataError: where there is no such method, or it has no such option.
    """
    method = COMPENSATIONS[name]
    COMPENSATIONS.check_options(name, options or {})
    if method.after is not None and problem.start is None:
        problem = replace(problem, start=compensate(problem, method.after))
    found: Compensation = method.function(problem, **(options or {}))
    return found
