"""Random architectures with most of their weights zero: what `minimise` gives computes what was there."""

from __future__ import annotations

import pytest
import torch
from architectures import Net, draw, inputs_of
from check import far, tensors_of

import deadhead as dh
from support.quick import each_of

CHUNK = 5
REFUSALS = "no weights that are not zero|can be cut|is not finite"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", each_of(range(20), [1], range(3, 20)))
def test_no_output_changes_when_all_that_zeros_have_made_superfluous_is_removed(chunk: int) -> None:
    removed = 0
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        spec = draw(seed)
        model, generator = Net(spec).eval(), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter[torch.rand(parameter.shape, generator=generator) < (0.6, 0.85, 0.95)[seed % 3]] = 0
        data = [(inputs_of(spec, 6, seed=seed), None)]
        try:
            pruned = dh.minimise(model, data)
        except dh.DeadheadError:
            with pytest.raises(dh.DeadheadError, match=REFUSALS):
                dh.minimise(model, data)
            continue
        unseen = inputs_of(spec, 5, seed=seed + 7)
        difference = far(tensors_of(pruned.model(*unseen)), tensors_of(model(*unseen)))
        assert difference <= 1e-9, f"seed {seed}: {difference:.1e} without {pruned.plan.removed}"
        removed += pruned.plan.count
    assert removed > 5
