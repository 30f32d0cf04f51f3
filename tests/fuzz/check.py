"""One case: cut random units off a random architecture and compare with references that know nothing of the cut.

Three references must agree with the cut module: the gated original; the user's own module with the consumers' columns
zeroed; and either of these with random numbers written over all else that belongs to the removed units. The last two
do not ask the gates, so that a label that is wrong in both gates and cut is seen.
"""

from __future__ import annotations

import copy
import random
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from architectures import Net, Spec, inputs_of
from torch import Tensor, nn

import deadhead
from deadhead.cut.cut import cut
from deadhead.cut.provable import Cutting, cuttable
from deadhead.data.calibration import Batch
from deadhead.errors import DeadheadError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.graph.units.groups import Group
from deadhead.reconstruction.compensation import Compensation
from deadhead.select.plan import Plan, plan_of

TOLERANCE = 1e-10
"""The largest relative difference that counts as agreement, in float64."""
LEAST_MOVE = 0.01
"""Plans that move every output by less prove nothing."""
ROWS = 5
TRIES = 4


@dataclass(frozen=True)
class Outcome:
    """What came of one (export, plan) case.

    `kind` is verified, weak (no plan moved the output), refused (an error of deadhead's own), nothing (no group),
    whole (no group can be cut from the class), or a failure: disagrees or crashed. `reason` says more.
    """

    kind: str
    reason: str = ""
    units: int = 0
    unexplained: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return self.kind in ("disagrees", "crashed")


class DisagreementError(AssertionError):
    """Something does not compute, or is not, what it should."""


def examine(spec: Spec, plans: int = 4, seed: int = 0) -> list[Outcome]:
    """`plans` outcomes for one architecture, every third with the width of residual streams among the units."""
    step = "build"
    try:
        model = Net(spec)
        before = snapshot(model)
        step = "trace"
        network = deadhead.trace(model, inputs_of(spec, spec.rows, seed=seed + 2), width=seed % 3 == 0)
        if not network.groups:
            return [Outcome("nothing", "; ".join(sorted(set(network.fixed.values()))[:2]))] * plans
        step = "groups"
        consistent(network)
        step = "trial"
        cutting = cuttable(network, network.groups)
        unexplained = () if model.rigid else tuple(f"{name}: {why}" for name, why in cutting.refused.items())
        if not cutting.groups:
            assert_told(cutting.refused)
            return [Outcome("whole", next(iter(cutting.refused.values())), 0, unexplained)] * plans
        outcomes = []
        for number in range(plans):
            step = f"plan {number}"
            outcomes.append(_case(spec, network, cutting, random.Random(f"{seed} {number}"), unexplained))
            unexplained = ()
        step = "after"
        unchanged(model, before)
        return outcomes
    except DeadheadError as error:
        if len(str(error)) < 20:
            return [Outcome("disagrees", f"{step}: {type(error).__name__} names nothing: {error}")]
        return [Outcome("refused", f"{step}: {type(error).__name__}: {error}")] * plans
    except DisagreementError as error:
        return [Outcome("disagrees", f"{step}: {error}")]
    except Exception as error:  # anything else is a failure to be reported with its place
        return [Outcome("crashed", f"{step}: {type(error).__name__}: {first_line(error)} ({place_of(error)})")]


def _case(spec: Spec, network: Network, cutting: Cutting, dice: random.Random, unexplained: tuple[str, ...]) -> Outcome:
    inputs = inputs_of(spec, ROWS, seed=dice.randrange(10**6))
    batch = Batch(inputs, None, None, ROWS)
    intact = tensors_of(network.run_module(inputs))
    for _ in range(TRIES):
        plan = random_plan(cutting, dice)
        gated = tensors_of(PrunedState.of(network, plan).outputs(batch))
        if far(gated, intact) > LEAST_MOVE:
            break
    else:
        return Outcome("weak", "no plan moved the output", 0, unexplained)
    shown = ", ".join(f"{name}: {gone.tolist()}" for name, gone in plan.removed.items())
    pruned = cut(network, plan, repairs=cutting.repairs)
    agree(tensors_of(network.run_module(inputs, pruned)), gated, f"cut against gated, without {shown}")
    noisy = PrunedState.of(network, plan, Compensation(tensors=noise(network, plan, dice.randrange(10**6))))
    agree(tensors_of(noisy.outputs(batch)), gated, f"noise in removed slices moves the gated original, {shown}")
    for fill in (False, True):
        reference = zeroed(network, plan, dice.randrange(10**6) if fill else None)
        if reference is not None:
            what = "with noise elsewhere" if fill else "alone"
            found = tensors_of(network.run_module(inputs, reference))
            agree(found, gated, f"consumers' columns zeroed {what} against gated, {shown}")
    train(network.module, pruned, inputs)
    return Outcome("verified", "", plan.count, unexplained)


def random_plan(cutting: Cutting, dice: random.Random) -> Plan:
    """Some units of some groups, at least one and never all; of tied groups equally many."""
    tied = {name for tie in cutting.ties for name in tie}
    items = list(cutting.ties) + [(group.name,) for group in cutting.groups if group.name not in tied]
    sizes = {group.name: group.size for group in cutting.groups}
    least = {group.name: group.minimum for group in cutting.groups}
    order = []
    for item in dice.sample(items, dice.randint(1, len(items))):
        size = sizes[item[0]]
        step = cutting.multiples.get(item[0], 1)
        fewest = -(-max(least[name] for name in item) // step) * step
        count = size - dice.choice(range(fewest, size, step))
        order += [(name, unit) for name in item for unit in dice.sample(range(size), count)]
    return plan_of(order)


def tensors_of(outputs: Any) -> list[Tensor]:
    """The tensors of whatever a model returns, in order."""
    if isinstance(outputs, Tensor):
        return [outputs.detach()]
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    return [tensor for each in parts for tensor in tensors_of(each)]


def far(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest max |a - b| / max |b| over the outputs; infinite where shapes differ or a value is not finite."""
    worst = 0.0
    if len(found) != len(expected):
        return float("inf")
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or not torch.isfinite(a).all():
            return float("inf")
        difference = float((a - b).abs().max())
        worst = max(worst, difference and difference / max(float(b.abs().max()), 1e-300))
    return worst


def agree(found: list[Tensor], expected: list[Tensor], what: str) -> None:
    if not (difference := far(found, expected)) <= TOLERANCE:
        raise DisagreementError(f"{what}: {difference:.1e}")


def _removed_slices(network: Network, plan: Plan) -> Iterator[tuple[str, int, Tensor, bool]]:
    """Each (tensor, axis, indices) that belongs to removed units, and whether a consumer contracts it."""
    for group in network.groups:
        gone = plan.removed.get(group.name)
        if gone is None:
            continue
        read = {(site.weight, site.weight_axis) for site in group.consumers}
        for part in group.slices:
            index = torch.isin(part.units, gone).nonzero()[:, 0]
            yield part.parameter, part.axis, index, (part.parameter, part.axis) in read


def noise(network: Network, plan: Plan, seed: int) -> dict[str, Tensor]:
    """The state with random positive numbers in all slices of the removed units."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: tensor.clone() for name, tensor in network.frozen_state().items()}
    for name, axis, index, _ in _removed_slices(network, plan):
        _write(state[name], axis, index, generator)
    return {name: state[name] for name in {name for name, *_ in _removed_slices(network, plan)}}


def zeroed(network: Network, plan: Plan, seed: int | None) -> nn.Module | None:
    """The user's module with the consumers' columns of removed units zeroed, and noise in their other slices where a
    seed is given; None where a consumer is no contraction with a parameter itself."""
    groups = [group for group in network.groups if group.name in plan.removed]
    if any(group.norms or any(site.weight is None for site in group.consumers) for group in groups):
        return None
    module = copy.deepcopy(network.module)
    tensors = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, axis, index, consumed in _removed_slices(network, plan):
            if consumed:
                tensors[name].index_fill_(axis, index, 0)
        for name, axis, index, consumed in _removed_slices(network, plan):
            if generator is not None and not consumed:
                _write(tensors[name], axis, index, generator)
    return module


def _write(tensor: Tensor, axis: int, index: Tensor, generator: torch.Generator) -> None:
    shape = [*tensor.shape[:axis], len(index), *tensor.shape[axis + 1 :]]
    with torch.no_grad():
        values = 0.2 + torch.rand(shape, generator=generator, dtype=torch.float64)
        tensor.index_copy_(axis, index, values.to(tensor))


def train(original: nn.Module, pruned: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A forward and a backward pass in training mode must run where the original's does, with finite gradients."""
    if _step(copy.deepcopy(original), inputs) is not None:
        return
    if (why := _step(pruned, inputs)) is not None:
        raise DisagreementError(f"a training step fails after the cut: {why}")


def _step(module: nn.Module, inputs: tuple[Tensor, ...]) -> str | None:
    module.train()
    try:
        loss = torch.stack([tensor.square().mean() for tensor in with_history(module(*inputs))]).sum()
        torch.autograd.backward(loss)
    except RuntimeError as error:
        return first_line(error)
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and parameter.grad.shape != parameter.shape:
            return f"the gradient of {name} has another shape"
    return None


def with_history(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    return [t for each in (outputs.values() if isinstance(outputs, dict) else outputs) for t in with_history(each)]


def consistent(network: Network) -> None:
    """Groups are disjoint, complete, of even shares, and the same in the static and the replayable graph."""
    tensors = network.state()
    owner: dict[tuple[str, int, int], str] = {}
    names = [group.name for group in network.groups]
    if len(set(names)) < len(names):
        raise DisagreementError(f"two groups have one name: {names}")
    for group in network.groups:
        if group.size < 2 or not group.slices:
            raise DisagreementError(f"{group.name} has {group.size} units in {len(group.slices)} slices")
        for part in group.slices:
            if len(part.units) != tensors[part.parameter].shape[part.axis]:
                raise DisagreementError(
                    f"{group.name}: {part.parameter} axis {part.axis} has {len(part.units)} entries"
                )
            counts = torch.bincount(part.units[part.units >= 0], minlength=group.size)
            if len(counts) != group.size or counts.min() != counts.max():
                raise DisagreementError(f"{group.name}: units own {counts.tolist()} entries of {part.parameter}")
            for entry in (part.units >= 0).nonzero()[:, 0].tolist():
                other = owner.setdefault((part.parameter, part.axis, entry), group.name)
                if other != group.name:
                    raise DisagreementError(f"{part.parameter}[{entry}] belongs to {other} and {group.name}")
    replayable = network.traced(network.example).units.groups
    if [_key(group) for group in replayable] != [_key(group) for group in network.groups]:
        raise DisagreementError(
            f"static groups {names}, dynamic {[group.name for group in replayable]}, or their slices"
        )


def _key(group: Group) -> tuple[Any, ...]:
    slices = tuple((part.parameter, part.axis, tuple(part.units.tolist())) for part in group.slices)
    return group.name, group.kind, group.size, slices


def assert_told(left: dict[str, str]) -> None:
    for name, why in left.items():
        if len(why) < 20:
            raise DisagreementError(f"{name} is left whole without a reason: {why!r}")


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that must be the same afterwards."""
    state: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
    return {
        "values": {name: tensor.detach().clone() for name, tensor in state.items()},
        "tensors": {name: id(tensor) for name, tensor in state.items()},
        "grads": {name: tensor.grad for name, tensor in state.items()},
        "requires": {name: tensor.requires_grad for name, tensor in state.items()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules()},
        "shown": repr(model),
        "random": torch.get_rng_state(),
    }


def unchanged(model: nn.Module, before: dict[str, Any]) -> None:
    """The original is as it was, to the bit."""
    after = snapshot(model)
    for what, value in before.items():
        if what == "values":
            wrong = [name for name, tensor in value.items() if not torch.equal(tensor, after[what][name])]
            if wrong:
                raise DisagreementError(f"the original's {wrong} were changed")
        elif what == "random":
            continue
        elif value != after[what]:
            raise DisagreementError(f"the original's {what} were changed")


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def place_of(error: BaseException) -> str:
    """The last line of deadhead that was running."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "/deadhead/" in each.filename]
    return f"{frames[-1].filename.split('/deadhead/')[-1]}:{frames[-1].lineno}" if frames else "outside deadhead"


def minimise(spec: Spec, plans: int, seed: int) -> Spec:
    """The specification with every step dropped without which it still fails."""
    smaller = True
    while smaller:
        smaller = False
        for index in reversed(range(len(spec.steps))):
            candidate = spec.without(index)
            if any(outcome.failed for outcome in examine(candidate, plans, seed)):
                spec, smaller = candidate, True
                break
    return spec
