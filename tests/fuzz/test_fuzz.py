"""Random architectures, random plans: the cut module computes what three references compute."""

from __future__ import annotations

import warnings

import pytest
import torch
from architectures import draw
from check import examine
from masked import CASES, examine_masked

from support.quick import each_of

PLANS = 3
CHUNKS = 10
EXPORTS = 10
"""In each chunk; 300 cases in all, of which 30 are quick."""
LEAST_VERIFIED = 0.95
LEAST_MASKED = 0.5
MASKED = 50
MASKED_EXPORTS = 5
"""In each chunk; 500 cases in all, of which 10 are quick."""


@pytest.mark.parametrize("chunk", each_of(range(CHUNKS), [1], range(4, CHUNKS)))
def test_cut_computes_what_gates_and_zeroed_columns_compute(chunk: int) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(chunk * EXPORTS, (chunk + 1) * EXPORTS):
            outcomes += [(seed, outcome) for outcome in examine(draw(seed), PLANS, seed)]
    torch.set_num_threads(threads)
    shown = "\n".join(f"seed {seed}: {o.kind}: {o.reason}" for seed, o in outcomes if o.kind != "verified")
    assert not any(outcome.failed for _, outcome in outcomes), shown
    verified = sum(outcome.kind == "verified" and outcome.units > 0 for _, outcome in outcomes)
    assert verified >= LEAST_VERIFIED * PLANS * EXPORTS, shown


@pytest.mark.parametrize("chunk", each_of(range(MASKED), [18], range(5, MASKED)))
def test_what_is_closed_and_trained_and_cut_computes_what_it_did_and_goes_on_as_it_would(chunk: int) -> None:
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(chunk * MASKED_EXPORTS, (chunk + 1) * MASKED_EXPORTS):
            outcomes += [(seed, outcome) for outcome in examine_masked(draw(seed), seed)]
    shown = "\n".join(f"seed {seed}: {o.kind}: {o.reason}" for seed, o in outcomes if o.kind != "verified")
    assert not any(outcome.failed for _, outcome in outcomes), shown
    verified = sum(outcome.kind == "verified" and outcome.units > 0 for _, outcome in outcomes)
    assert verified >= LEAST_MASKED * CASES * MASKED_EXPORTS, shown
