"""Tensors go in and out of any container and come back as they were."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deadhead.graph.pytree import Call, as_call, take

Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass
class Output:
    logits: Tensor
    cache: Any = None


leaves = st.one_of(st.builds(lambda n: torch.full((2,), float(n)), st.integers(0, 99)), st.integers(), st.none())
containers = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=8,
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return left is right
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


@given(containers)
def test_what_is_taken_apart_comes_back_as_it_was(value: Any) -> None:
    tensors, structure = take(value)
    assert structure.count == len(tensors)
    assert same(structure.fill(tensors), value)


@given(containers)
def test_others_can_be_put_in_their_place(value: Any) -> None:
    tensors, structure = take(value)
    others = [tensor + 100 for tensor in tensors]
    again, _ = take(structure.fill(others))
    assert all(a is b for a, b in zip(again, others, strict=True))


def test_dataclasses_ordered_dicts_and_namedtuples_keep_their_type() -> None:
    for value in (Output(torch.ones(2)), OrderedDict(b=torch.ones(1), a=torch.zeros(1)), Pair(torch.ones(1), 3)):
        tensors, structure = take(value)
        back = structure.fill([2 * tensor for tensor in tensors])
        assert type(back) is type(value)
    assert list(take(OrderedDict(b=torch.ones(1), a=torch.zeros(1)))[1].fill([torch.ones(1)] * 2)) == ["b", "a"]


def test_a_cache_in_an_output_is_dropped_and_plain_values_stay() -> None:
    tensors, structure = take(Output(torch.ones(2), cache=object()), opaque=True)
    assert structure.fill(tensors).cache is None
    assert take({"n": 3, "x": object()}, opaque=True)[1].fill([]) == {"n": 3, "x": None}


def test_a_wrong_number_of_tensors_is_refused() -> None:
    _, structure = take([torch.ones(1), torch.ones(1)])
    with pytest.raises(ValueError, match="expected 2 tensors, got 1"):
        structure.fill([torch.ones(1)])


def test_what_a_model_is_called_with() -> None:
    x, y = torch.ones(1), torch.zeros(1)
    assert as_call(x) == ((x,), {})
    assert as_call((x, y)) == ((x, y), {})
    assert as_call([x, y]) == ((x, y), {})
    assert as_call({"a": x}) == ((), {"a": x})
    assert as_call(Call((x,), {"b": y})) == ((x,), {"b": y})
