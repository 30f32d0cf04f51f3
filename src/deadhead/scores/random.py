"""Random scores, the baseline of all criteria."""

from __future__ import annotations

import torch
from torch import Tensor

from deadhead.scores.criterion import Question, criterion


@criterion("random", needs_data=False)
def random(question: Question) -> dict[str, Tensor]:
    """Random scores, which every criterion has to beat: uniform in [0, 1), drawn by the seed."""
    generator = torch.Generator().manual_seed(question.seed)
    return {g.name: torch.rand(g.size, generator=generator, dtype=torch.float64) for g in question.groups}
