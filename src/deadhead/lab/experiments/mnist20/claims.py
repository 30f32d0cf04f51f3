"""What Wolfe et al. (2016) claim about pruning networks that know small digits, and how it is judged."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from deadhead.lab.experiment import Document
from deadhead.lab.experiments.mnist20.why import TAKEAWAY as TAKEAWAY
from deadhead.lab.experiments.mnist20.why import VARIANTS, WHYS
from deadhead.lab.judges import (
    FAILS,
    HOLDS,
    OPEN,
    Difference,
    Every,
    Exact,
    InBand,
    Judgement,
    Results,
    Share,
    over_seeds,
)

FREE = (
    "Free: before the accuracy is first down by more than a point; flat: before the error passes its start by 5 % of "
)
FREE += "its range to the error with no unit; both on the images that decide."
LOG = "Mean log error over the curve."

WAYS = ("brute", "linear", "quadratic")
NETS = ("one", "two")


@dataclass(frozen=True)
class NoneWins:
    """Holds where no one of several is best in 80 % of all networks, of which there are ten at least.

    Args:
        values: names of results, each a list of 1 (best) and 0 (not) over the networks of a seed.
    """

    values: tuple[str, ...]

    def __call__(self, results: Results) -> Judgement:
        wins = {value: [float(x) for each in results for x in each[value]] for value in self.values}
        number = tuple(over_seeds(value, [statistics.fmean(each)]) for value, each in wins.items())
        if min(map(len, wins.values())) < 10:
            return Judgement(OPEN, number)
        best = max(statistics.fmean(each) for each in wins.values())
        return Judgement(HOLDS if best < 0.8 else FAILS, number)


_claim = Document("Wolfe et al. (2016)", WHYS, VARIANTS).claim


def _same(names: list[str], value: Any) -> dict[str, Any]:
    return dict.fromkeys(names, value)


GAINS = [f"re_ranking_gain_{net}_{way}" for net in NETS for way in WAYS]
SINGLES = [f"two_less_one_single_{way}" for way in WAYS]
THRESHOLDS = [f"quadratic, mean threshold less quadratic, {net}" for net in (*NETS, "cosine")]

CLAIMS = (
    _claim(
        "D1.1", "section 3.3 and figure 1", "The parabola estimates the loss without a unit far better than the line.",
        '"much better"', Every(*(Difference(f"log_error_{net}", below=0) for net in NETS)),
        _same(["log_error_one", "log_error_two"], -1.0), _same(["log_error_one", "log_error_two"], 0.5),
        "Log of the mean absolute error over units, less that of the linear estimate; intact networks.", "estimates",
    ),
    _claim(
        "D1.2", "appendix A", "The recursion gives the second derivative of the error by each unit's output.",
        "equations 66 and 73",
        Every(
            Exact("recursion_last", 1e-8, "gauss_newton"), Exact("recursion_before", 1e-8, "gauss_newton"),
        ),
        {"recursion_last": [1e-13, 1e-13], "recursion_before": [1e-13], "gauss_newton": [0.1, 0.1, 0.1]},
        {"recursion_last": [0.1, 0.1], "recursion_before": [0.4]},
        "Largest error by the largest second derivative, in float64, of the last hidden layer and of the one before; "
        "equation 73 in place of the misprinted 71. The control is the Gauss-Newton approximation.", "estimates",
    ),
    _claim(
        "D1.3", "section 4.3.1", "On one layer both estimates rank units much as brute force does.", '"reasonable"',
        Share("ranks_one", low=0.7), {"ranks_one": [0.9, 0.95]}, {"ranks_one": [0.2, 0.3]},
        "Spearman's correlation with the measured changes, of the linear and the quadratic estimate.", "estimates",
    ),
    _claim(
        "D2.1", "section 3.3", "Limiting large estimates by a threshold helps the quadratic one.", "none",
        Every(*(Difference(name, below=0) for name in THRESHOLDS)),
        _same(THRESHOLDS, -0.2), _same(THRESHOLDS, 0.2),
        f"{LOG} Estimates above 3 x the mean of absolute values become the mean, re-ranked, on 1x100 and 2x50 "
        "units and on the cosine's 2x10; the median is drawn beside it.", "beyond",
    ),
    _claim(
        "D3.1", "section 4.5", "Re-ranking is far better than a single ranking.", '"nonviable"',
        Every(*(Difference(name, above=0.1 if "brute" in name else 0) for name in GAINS)),
        _same(GAINS, 0.3), _same(GAINS, -0.05),
        f"Free share of the units with re-ranking less that of the single ranking. {FREE}",
    picture="one"),
    _claim(
        "D5.1", "section 4.3.1", "With one layer and a single ranking no criterion is superior.", "none",
        NoneWins(tuple(f"lowest_single_{way}" for way in WAYS)),
        {"lowest_single_brute": [1, 0], "lowest_single_linear": [0, 1], "lowest_single_quadratic": [0, 0]},
        {"lowest_single_brute": [1, 1], "lowest_single_linear": [0, 0], "lowest_single_quadratic": [0, 0]},
        f"{LOG} How often each is lowest, on two networks for each seed.",
    picture="one"),
    _claim(
        "D5.2", "section 4.3.2", "With one layer and re-ranking brute force frees almost 60 % of the units.", "60 %",
        Every(Share("free_one_brute", low=0.55), Share("flat_one_brute", low=0.5)),
        {"free_one_brute": 0.6, "flat_one_brute": 0.6}, {"free_one_brute": 0.2, "flat_one_brute": 0.2}, FREE,
    picture="one"),
    _claim(
        "D5.3", "section 4.3.2", "With one layer and re-ranking the quadratic estimate mostly beats the linear one.",
        '"consistently"',
        Every(Difference("quadratic_less_linear_one", below=0), Share("quadratic_lower_one", low=0.6)),
        {"quadratic_less_linear_one": -0.5, "quadratic_lower_one": 0.9},
        {"quadratic_less_linear_one": 0.5, "quadratic_lower_one": 0.1},
        f"{LOG} And the share of removals after which its error is the lower one.",
    picture="one"),
    _claim(
        "D5.4", "section 4.4.1", "A single ranking does worse on two layers than on one.", "none",
        Every(*(Difference(name, below=0) for name in SINGLES)), _same(SINGLES, -0.1), _same(SINGLES, 0.1),
        f"Free share, of each criterion. {FREE}", "two",
    ),
    _claim(
        "D5.5", "section 4.4.2", "With two layers and re-ranking brute force frees up to 40 % of the units.", "40 %",
        Every(Share("free_two_brute", low=0.35), Share("flat_two_brute", low=0.3)),
        {"free_two_brute": 0.4, "flat_two_brute": 0.4}, {"free_two_brute": 0.1, "flat_two_brute": 0.1}, FREE, "two",
    ),
    _claim(
        "D5.6", "sections 4.4.2 and 5", "Deeper networks are harder to prune, and still deeper ones harder yet.",
        "60 %, 40 %",
        Every(Difference("second_layer_costs", below=0), Difference("third_layer_costs", below=0)),
        {"second_layer_costs": -0.2, "third_layer_costs": -0.1}, {"second_layer_costs": 0.1, "third_layer_costs": 0.1},
        f"Free share by brute force: of two layers less that of one, and of three (of 33) less that of two. {FREE}",
        "sizes",
    ),
    _claim(
        "D5.7", "section 4.4.2", "With two layers the quadratic estimate beats the linear one but for the first 20 %.",
        "20 %; accuracy alike",
        Every(
            Difference("quadratic_less_linear_two_late", below=0),
            Difference("quadratic_less_linear_two_early", above=0), Difference("accuracy_gap_two_early", below=0.01),
        ),
        {
            "quadratic_less_linear_two_late": -0.5, "quadratic_less_linear_two_early": 0.3,
            "accuracy_gap_two_early": 0.001,
        },
        {
            "quadratic_less_linear_two_late": 0.5, "quadratic_less_linear_two_early": -0.3,
            "accuracy_gap_two_early": 0.2,
        },
        f"{LOG} After the first fifth of the units, and within it; and the mean gap of accuracies within it.", "two",
    ),
    _claim(
        "D5.8", "abstract", "Brute force removes 40 to 70 % of the units without retraining.",
        "40-70 % (sections 2.2 and 5 call it the size that is kept)",
        Every(Share("brute_free_by_task", low=0.4), InBand("brute_free_mean", 0.4, 0.7)),
        {"brute_free_by_task": [0.6, 0.4, 0.7], "brute_free_mean": 0.55},
        {"brute_free_by_task": [0.1, 0.1, 0.2], "brute_free_mean": 0.13},
        "Free share with re-ranking, on 1x100 and 2x50 units and on small versions of one digit against the rest "
        "(0, 1, 2), where 2,000 images decide.", "tasks",
    ),
    _claim(
        "D5.9", "section 5", "The linear and the quadratic estimate remove 10 to 30 % of the units.", "10-30 %",
        Every(InBand("linear_flat_median", 0.1, 0.3), InBand("quadratic_flat_median", 0.1, 0.3)),
        {"linear_flat_median": 0.2, "quadratic_flat_median": 0.2},
        {"linear_flat_median": 0.01, "quadratic_flat_median": 0.8},
        "Median over tasks of the share removed while the error is flat, re-ranked: 1x100 and 2x50 units, and small "
        "versions of the cosine (2x10 units), the diamond and one digit against the rest (0, 1, 2).", "tasks",
    ),
    _claim(
        "D5.10", "section 5", "Brute force is always best.", '"always"',
        Share("brute_leads", low=0), {"brute_leads": [0.5, 0.1]}, {"brute_leads": [0.5, -0.4]},
        f"{LOG} The better estimate's less brute force's, on each of the tasks of D5.9: above 0 on all of them. Judged "
        "among the paper's three; the takeaway names what is better than brute force with zeros.", "tasks",
    ),
    _claim(
        "D5.11", "section 1", "More units do not mean more used units.", "redundancy",
        Difference("left_wide_by_narrow", below=1.5), {"left_wide_by_narrow": 1.0}, {"left_wide_by_narrow": 3.5},
        f"Units that brute force leaves of 200 by those that it leaves of 50, one layer. {FREE}", "sizes",
    ),
    _claim(
        "D5.12", "section 1", "A few elite units carry the function.", '"elite"',
        Every(*(Share(f"elite_{net}", low=0.5) for net in NETS)),
        {"elite_one": 0.8, "elite_two": 0.8}, {"elite_one": 0.25, "elite_two": 0.25},
        "Share of the rise of the loss, summed over single removals, that the most damaging fifth holds; intact.",
        "estimates",
    ),
    _claim(
        "D9.1", "section 5", "Brute force takes units primarily from the deepest layer first.", '"primarily"',
        Share("brute_last_layer", low=0.65), {"brute_last_layer": 0.8}, {"brute_last_layer": 0.3},
        "Share of the first half of the removed units, two layers, re-ranked.", "layers",
    ),
    _claim(
        "D9.2", "section 5", "The linear and the quadratic estimate show no such pattern.", "no obvious pattern",
        Share("taylor_last_layer", 0.4, 0.6), {"taylor_last_layer": [0.5, 0.5]}, {"taylor_last_layer": [0.9, 0.1]},
        "The same share of both.", "layers",
    ),
    _claim(
        "D10.1", "section 5", "A part of the data can decide, and the search can run in parallel.", "none",
        Every(
            *(Difference(f"part_loses_{net}", below=0.05) for net in NETS),
            *(Exact(f"parallel_differs_{net}", 0, f"part_differs_{net}") for net in NETS),
        ),
        {
            "part_loses_one": 0.01, "part_loses_two": 0.01, "parallel_differs_one": 0, "parallel_differs_two": 0,
            "part_differs_one": 50, "part_differs_two": 50,
        },
        {
            "part_loses_one": 0.3, "part_loses_two": 0.3, "parallel_differs_one": 4, "parallel_differs_two": 4,
        },
        "Free share by brute force on all images less that where 500 decide; and at how many places the order of two "
        "workers differs from that of one. Where 500 decide, the order differs: the control.", "sizes",
    ),
)  # fmt: skip
"""By the feature that they belong to: estimates, thresholds, algorithms, networks, layers, a part of the data."""
