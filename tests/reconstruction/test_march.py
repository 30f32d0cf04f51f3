"""What the choice of units rests on besides the surgeon: the damping that does best on held-out rows."""

import pytest
import torch

from deadhead.reconstruction import march
from deadhead.reconstruction.surgeon import Side, choose, damped


def regression(rows: int, weight: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns that resemble each other, and noisy outputs of them."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.randn(rows, 4, generator=generator).double()
    mixing = torch.randn(4, weight.shape[1] - 1, generator=torch.Generator().manual_seed(99)).double()
    read = few @ mixing + 0.3 * torch.randn(rows, mixing.shape[1], generator=generator).double()
    wide = torch.cat([read, torch.ones(rows, 1).double()], 1)
    return wide, wide @ weight.T + torch.randn(rows, weight.shape[0], generator=generator).double()


def side(wide: torch.Tensor, wanted: torch.Tensor, damping: float) -> Side:
    gram = wide.T @ wide / len(wide)
    units = torch.tensor([*range(wide.shape[1] - 1), -1])
    return Side(damped(gram, damping), wanted.T @ wide / len(wide), units, torch.ones(len(units), dtype=torch.bool))


@pytest.mark.parametrize("rows", [14, 400])
def test_the_damping_is_that_of_the_least_error_on_held_out_rows(monkeypatch, rows):
    weight = torch.randn(3, 11, generator=torch.Generator().manual_seed(1)).double()
    known, unseen = regression(rows, weight, 2), regression(200, weight, 3)
    monkeypatch.setattr(march, "CHOICE_DAMPINGS", (1e-6, 1e-3, 1.0))
    errors = {}
    for damping in march.CHOICE_DAMPINGS:
        greedy = choose([side(*known, damping)], 10, 4, sweeps=0, tries=0)
        error = (unseen[0] @ greedy.weights[0].T - unseen[1]).square().sum(1).mean().item()
        constant = unseen[1].square().sum(1).mean().item()
        assert side(*unseen, 0.0).cost(greedy.weights[0]) == pytest.approx(error - constant, rel=1e-9)
        errors[damping] = error
    asked = []

    def sides(damping: float) -> list[Side]:
        asked.append(damping)
        return [side(*known, damping)]

    nothing = torch.zeros(10, dtype=torch.float64)
    found = march._choose(sides, [side(*unseen, 0.0)], 10, 4, nothing)
    best = min(errors, key=errors.__getitem__)
    assert asked[-1] == best
    assert found.order == choose([side(*known, best)], 10, 4, nothing).order
