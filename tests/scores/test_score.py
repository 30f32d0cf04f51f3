"""What `score` returns prints as a table, and is a dict all the same."""

from __future__ import annotations

import torch
from torch import nn

import deadhead as dh


def test_scores_are_a_dict_that_prints_its_extremes_and_not_its_tensors() -> None:
    model = nn.Sequential(nn.Linear(2, 40), nn.ReLU(), nn.Linear(40, 2))
    data = [(torch.randn(8, 2), torch.randint(2, (8,)))]
    scores = dh.score(model, data, loss="cross_entropy", criterion="magnitude")
    assert isinstance(scores, dict)
    norms = model[0].weight.detach().double().square().sum(1).sqrt()
    torch.testing.assert_close(scores["0"], norms)
    for text in (str(scores), repr(scores)):
        heading, line = text.splitlines()
        assert heading.split() == ["group", "units", "minimum", "median", "maximum", "lowest", "units"]
        name, units, minimum, _, maximum, *lowest = line.replace(",", "").split()
        assert (name, units) == ("0", "40")
        assert (float(minimum), float(maximum)) == (float(f"{norms.min():.4g}"), float(f"{norms.max():.4g}"))
        assert [int(each) for each in lowest[:5]] == norms.argsort()[:5].tolist()
        assert lowest[5:] == ["and", "35", "more"]


def test_what_is_not_finite_is_left_out_of_the_table() -> None:
    from deadhead.scores.result import Scores

    assert str(Scores({"a": torch.tensor([float("nan"), float("inf")])})).splitlines()[1].split() == [
        "a", "2", "-", "-", "-", "-",
    ]  # fmt: skip
