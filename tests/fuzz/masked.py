"""One case: close random units of a random architecture, train it, cut it: the cut module is the masked one, goes on
as it does, and what is opened is what it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable

import torch
from architectures import Net, Spec, inputs_of
from check import DisagreementError, Outcome, far, first_line, place_of, random_plan, tensors_of, with_history
from torch import Tensor, nn

import deadhead
from deadhead.cut.provable import Cutting, cuttable
from deadhead.data.calibration import Batch
from deadhead.errors import DeadheadError, MaskError
from deadhead.gates.state import PrunedState
from deadhead.graph.network import Network
from deadhead.select.plan import Plan
from deadhead.training.masking.masks import Masks

CASES = 2
"""For each architecture."""
ROWS = 6
STEPS = 20
AFTER = 4
"""Steps that the masked and the cut network make side by side."""
TOLERANCE = 1e-9
LATER = 1e-6
"""After more steps: where a network chooses (pools, experts), rounding grows."""
LEAST_MOVE = 0.01
DRAWS = {"Dropout", "_DropoutNd", "MultiheadAttention", "TransformerEncoderLayer"}
"""Classes, by name, of modules that draw as many random numbers as there are units."""


def examine_masked(spec: Spec, seed: int) -> list[Outcome]:
    """Two outcomes for one architecture: units closed as they are, and with their means in their consumers' biases."""
    step = "trace"
    try:
        model = Net(spec)
        network = deadhead.trace(model, inputs_of(spec, ROWS, seed=seed + 2), width=seed % 3 == 0)
        if not network.groups:
            return [Outcome("nothing", "no group")] * CASES
        try:
            step_of(copy.deepcopy(model), spec, seed)
        except RuntimeError as error:
            return [Outcome("weak", f"the intact network does not train: {first_line(error)}")] * CASES
        step = "trial"
        cutting = cuttable(network, network.groups)
        cutting, refused = closable(network, cutting)
        if not cutting.groups:
            return [Outcome("whole", refused or "no group can be cut")] * CASES
        outcomes = []
        for reference in ("zero", "mean"):
            step = reference
            dice = random.Random(f"{seed} {reference}")
            outcomes.append(_case(spec, network, random_plan(cutting, dice), reference, dice))
        return outcomes
    except DisagreementError as error:
        return [Outcome("disagrees", f"{step}: {error}")]
    except DeadheadError as error:
        return [Outcome("refused", f"{step}: {type(error).__name__}: {error}")] * CASES
    except Exception as error:  # anything else is a failure to be reported with its place
        return [Outcome("crashed", f"{step}: {type(error).__name__}: {first_line(error)} ({place_of(error)})")]


def closable(network: Network, cutting: Cutting) -> tuple[Cutting, str]:
    """The groups whose units zeros close, and why others are not among them; the module is left as it was."""
    good, refused, masks = set(), "", Masks(network, None)
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    for group in cutting.groups:
        try:
            masks.close({group.name: [group.size - 1]})
            masks.open()
            good.add(group.name)
        except MaskError as error:
            refused = str(error)
        for name, tensor in network.module.state_dict().items():
            if not torch.equal(tensor, before[name]):
                raise DisagreementError(f"{name} is not what it was after {group.name} was to be closed and opened")
    masks.stop()
    ties = tuple(tie for tie in cutting.ties if good >= set(tie))
    good -= {name for tie in cutting.ties if tie not in ties for name in tie}
    groups = tuple(group for group in cutting.groups if group.name in good)
    multiples = {name: each for name, each in cutting.multiples.items() if name in good}
    return Cutting(groups, cutting.refused, cutting.repairs, ties, multiples), refused


def _case(spec: Spec, network: Network, plan: Plan, reference: str, dice: random.Random) -> Outcome:
    model, seed = network.module, dice.randrange(10**6)
    inputs = inputs_of(spec, ROWS, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    masks = Masks(network, optimizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gated = tensors_of(PrunedState.of(network, plan).outputs(Batch(inputs, None, None, ROWS)))
    shown = ", ".join(f"{name}: {gone.tolist()}" for name, gone in plan.removed.items())
    masks.close(plan.removed, reference=reference)
    if reference == "zero":
        _agree(evaluated(model, inputs), gated, f"masked against gated, {shown}")
    _train(model, optimizer, spec, range(seed, seed + STEPS))
    tensors, held = masks.network.state(), masks.keep
    for name, keep in held.items():
        if bool(tensors[name][~keep].any()):
            raise DisagreementError(f"closed entries of {name} are not zero after {STEPS} steps, {shown}")
    trained = evaluated(model, inputs)
    if not far(trained, gated) > LEAST_MOVE:
        return Outcome("weak", "training moved nothing")
    pruned = masks.cut()
    _agree(evaluated(pruned.model, inputs), trained, f"cut against masked, {shown}")
    later = range(seed + STEPS, seed + STEPS + AFTER)
    _train(pruned.model, pruned.optimizer, spec, later)
    _train(model, optimizer, spec, later)
    _agree(evaluated(pruned.model, inputs), evaluated(model, inputs), f"cut against masked later, {shown}", LATER)
    masks.open()
    exact = {"zero": 0.0, "mean": 1e-12}  # constants are added to biases and taken back
    for name, keep in held.items():
        had = before.get(name, torch.zeros_like(keep))[~keep]  # of a bias that is new: nothing
        if not torch.allclose(tensors[name][~keep], had.to(tensors[name]), rtol=0, atol=exact[reference]):
            raise DisagreementError(f"{name} is not what it was when its units were closed, {shown}")
    masks.stop()
    return Outcome("verified", "", plan.count)


def evaluated(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The outputs in evaluation mode; the modes are left as they were."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        outputs = tensors_of(model(*inputs))
    for module, mode in modes.items():
        module.training = mode
    return outputs


def step_of(model: nn.Module, spec: Spec, seed: int) -> None:
    """The gradient of a distance to random targets, in training mode but for dropout, whose draws depend on sizes."""
    model.train()
    for module in model.modules():
        if DRAWS & {each.__name__ for each in type(module).__mro__}:
            module.eval()
    loss, generator = torch.zeros((), dtype=torch.float64), torch.Generator().manual_seed(seed)
    for output in with_history(model(*inputs_of(spec, ROWS, seed=seed))):
        target = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        loss = loss + (output - target).square().mean()
    torch.autograd.backward(loss)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, spec: Spec, seeds: Iterable[int]) -> None:
    for seed in seeds:
        optimizer.zero_grad()
        step_of(model, spec, seed)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _agree(found: list[Tensor], expected: list[Tensor], what: str, tolerance: float = TOLERANCE) -> None:
    if not (difference := far(found, expected)) <= tolerance:
        raise DisagreementError(f"{what}: {difference:.1e}")
