"""Sizes: units, parameters, multiply-adds and memory of a network for any numbers of removed units."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from deadhead.errors import BudgetError
from deadhead.graph.costs import Count, GraphCosts, parameter_lengths
from deadhead.graph.network import Network
from deadhead.graph.trace import batch_size
from deadhead.graph.units.groups import Group


class Sizes:
    """The size of a network when `removed[group]` units of each group are removed, without cutting it.

    Args:
        network: the intact network.
        groups: the groups that can be pruned.
        biases: {weight: the groups}, weights that are given a bias when units of these groups are removed.
        measured: the nanoseconds of a forward pass when so many units of each group are removed.
    """

    def __init__(
        self,
        network: Network,
        groups: Sequence[Group],
        biases: Mapping[str, Sequence[str]] | None = None,
        measured: Callable[[Mapping[str, int]], int] | None = None,
    ) -> None:
        self._network, self._groups, self._biases, self._measured = network, groups, biases or {}, measured
        self._units = sum(group.size for group in groups)
        self._parameters = dict(network.module.named_parameters())
        self._entries = self._count(self._parameters)
        self._added = {
            weight: parameter_lengths(groups, weight, self._parameters[weight].shape)[0] for weight in self._biases
        }

    def _count(self, tensors: Mapping[str, Tensor], in_bytes: bool = False) -> Count:
        count, seen = Count(), set[int]()
        for name, tensor in tensors.items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                count.add(parameter_lengths(self._groups, name, tensor.shape), tensor.itemsize if in_bytes else 1)
        return count

    @functools.cached_property
    def _counts(self) -> GraphCosts:
        static = self._network.static
        return GraphCosts(static.graph, static.units, batch_size(self._network.example, self._network.batch_axis))

    @functools.cached_property
    def _state(self) -> Count:
        return self._count(self._network.state(), in_bytes=True)

    def units(self, removed: Mapping[str, int]) -> int:
        """The number of units."""
        return self._units - sum(removed.values())

    def parameters(self, removed: Mapping[str, int]) -> int:
        """The number of entries of all parameters, tied ones once."""
        added = sum(
            self._added[weight].of(removed)
            for weight, names in self._biases.items()
            if any(removed.get(name) for name in names)
        )
        return self._entries.of(removed) + added

    def macs(self, removed: Mapping[str, int]) -> int:
        """The multiply-adds of one sample."""
        return self._counts.macs(removed)

    def memory(self, removed: Mapping[str, int]) -> int:
        """The bytes of parameters, buffers, and the maximum of activations of one sample that are alive at once."""
        return self._state.of(removed) + self._counts.activations(removed)

    def nanoseconds(self, removed: Mapping[str, int]) -> int:
        """The time of a forward pass, as measured."""
        if self._measured is None:
            raise BudgetError(
                "The time of a forward pass cannot be measured here; give another budget than latency, such as macs."
            )
        return self._measured(removed)
