"""Models that are made from a configuration, as those of Hugging Face are: the configuration of the smaller model, so
that `from_pretrained` can read what `save_pretrained` writes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from deadhead.cut.surgery import assign
from deadhead.cut.verify import floats, tolerance_of
from deadhead.graph.agreement import relative_difference
from deadhead.graph.network import Network

Change = tuple[str, int]
"""An attribute of the configuration (`vision_config.num_attention_heads`) and its new value."""


def has_configuration(module: nn.Module) -> bool:
    """Whether a module is saved with a configuration from which its class makes it again."""
    return hasattr(module, "save_pretrained") and hasattr(vars(module).get("config"), "to_dict")


def configuration_of(network: Network, smaller: nn.Module, sizes: Sequence[tuple[int, int]]) -> list[Change] | None:
    """The changes of a configuration with which its class makes a model as small as `smaller`; None where the
    configuration cannot express it.

    Changes are made as long as fewer tensors differ in shape, on the meta device; what the class derives for itself
    where the configuration does not say it (a head's width from the number of heads) may have to be written down as it
    is. At the end the class makes the model, which is given the weights of `smaller` and has to compute the same.

    Args:
        network: the intact network.
        smaller: what was cut from it.
        sizes: the numbers of units of the groups before and after; what is a multiple of the first may have to become
            that multiple of the second.
    """
    with torch.random.fork_rng(devices=[]):  # making a model draws its weights
        return _search(network, smaller, sizes)


def _search(network: Network, smaller: nn.Module, sizes: Sequence[tuple[int, int]]) -> list[Change] | None:
    intact = network.module
    wanted = _shapes(smaller)
    changes: list[Change] = []
    wrong = _differing(intact, changes, wanted)
    pairs = sorted({(before, after) for before, after in sizes if after < before})
    while wrong:
        better = _improved(intact, changes, wrong, pairs, wanted)
        if better is None:
            return None
        changes, wrong = better
    return changes if _same(network, smaller, changes) else None


def _improved(
    intact: nn.Module,
    changes: list[Change],
    wrong: int,
    pairs: Sequence[tuple[int, int]],
    wanted: dict[str, tuple[int, ...]],
) -> tuple[list[Change], int] | None:
    """One more change with which fewer than `wrong` tensors differ, and how many do. A number that counts the units is
    tried before one that is a multiple of them, and a change by itself before one that needs another number written
    down."""
    for pins in ([], *([pin] for pin in _unsaid(intact))):
        tried: dict[int, list[list[Change]]] = {}
        for name, value in _numbers(vars(intact)["config"]):
            for before, after in pairs:
                if name not in dict(changes) and value and value % before == 0:
                    one = [*changes, *pins, (name, value // before * after)]
                    tried.setdefault(value // before, []).append(one)
        for _, each in sorted(tried.items()):
            fewest, best = min(((_differing(intact, one, wanted), one) for one in each), key=lambda pair: pair[0])
            if fewest < wrong:
                return best, fewest
    return None


def _numbers(config: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """The integers of a configuration and of those within it, by name."""
    for name, value in vars(config).items():
        if name.startswith("_") or isinstance(value, bool):
            continue
        if isinstance(value, int):
            yield prefix + name, value
        elif hasattr(value, "to_dict") and depth < 2:
            yield from _numbers(value, f"{prefix}{name}.", depth + 1)


def _unsaid(intact: nn.Module) -> list[Change]:
    """The numbers that all modules which have them agree on, and that the configuration does not have."""
    config, found = vars(intact)["config"], dict[str, set[Any]]()
    for module in intact.modules():
        if not type(module).__module__.startswith("torch.nn."):
            for name, value in vars(module).items():
                if isinstance(value, int) and not isinstance(value, bool) and not name.startswith("_"):
                    found.setdefault(name, set()).add(value)
    return [
        (name, next(iter(values)))
        for name, values in found.items()
        if len(values) == 1 and getattr(config, name, None) is None
    ]


def _changed(intact: nn.Module, changes: Sequence[Change]) -> Any:
    """A copy of the configuration with the changes."""
    config = copy.deepcopy(vars(intact)["config"])
    for name, value in changes:
        holder = config
        *path, leaf = name.split(".")
        for each in path:
            holder = getattr(holder, each)
        setattr(holder, leaf, value)
    return config


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _differing(intact: nn.Module, changes: Sequence[Change], wanted: dict[str, tuple[int, ...]]) -> int:
    """How many tensors of the model that the class makes with these changes have another shape than wanted; more than
    there are where it cannot be made."""
    try:
        with torch.device("meta"):
            made = _shapes(type(intact)(_changed(intact, changes)))
    except Exception:  # the class may refuse any combination
        return 2 * len(wanted) + 1
    return sum(made.get(name) != wanted.get(name) for name in {*made, *wanted})


def _same(network: Network, smaller: nn.Module, changes: Sequence[Change]) -> bool:
    """Whether the model that the class makes with these changes, and the weights of `smaller`, computes the same."""
    try:
        made = type(network.module)(_changed(network.module, changes))
        made.load_state_dict(smaller.state_dict())
        made.to(next(smaller.parameters()).dtype).to(network.device())
        expected = floats(network.run_module(network.example_call(), smaller))
        found = floats(network.run_module(network.example_call(), made))
    except Exception:  # the class may refuse any combination
        return False
    return len(found) == len(expected) and all(
        ours.shape == theirs.shape and relative_difference(ours, theirs) <= tolerance_of(smaller)
        for ours, theirs in zip(found, expected, strict=True)
    )


def write_configuration(smaller: nn.Module, changes: Sequence[Change]) -> list[tuple[str, str, Any]]:
    """Make the changes in the configuration of a module; returns them as settings of a surgery."""
    for name, value in changes:
        assign(smaller, f"config.{name}", value)
    return [("", f"config.{name}", value) for name, value in changes]
