"""What Evci (2018), section 4.2, claims about pruning units while training, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Exact, InBand, Share

TAKEAWAY = (
    "Removing three fifths of the units of every layer while training, a fifth of the parameters left, costs "
    "{drop_mrs} points of accuracy when mean replacement saliency chooses and {drop_obs} when the optimal brain "
    "surgeon chooses and least squares refits; the last round costs {last_jump_mrs} nats at once with means and "
    "{last_jump_obs} with that."
)
VARIANTS: Mapping[str, Mapping[str, Any]] = {}

CLAIMS = (
    Claim(
        "E7.2", "Evci (2018), section 1.2.4", "A constant unit is free when its constant is propagated.", "no change",
        Exact("constant_unit_change", 1e-6, "bare_deletion_change"),
        {"constant_unit_change": 0.0, "bare_deletion_change": 0.5}, {"constant_unit_change": 0.1},
        "A unit planted in each layer, with weights 0 and bias 0.7, removed from all layers at once. The next bias "
        "gets W g(E[h]), the mean of what it reads; as printed, g acts on the product.",
    ),
    Claim(
        "E10.1", "Evci (2018), section 4.2", "The schedule leaves a network five times smaller.",
        "20,522 to 4,019, 4-7-26", Exact("count_error", 0.0, "count_error_rounded"),
        {"count_error": 0, "count_error_rounded": 800}, {"count_error": 3},
        "Differences of units and parameters, summed; floor(0.6 K) of K units are removed. The control rounds.",
    ),
    Claim(
        "E10.2", "Evci (2018), section 4.2", "Pruned network and twin end equally accurate.", "98.42 % both",
        Every(
            Difference("drop_mrs", below=0.3), InBand("pruned_accuracy", 98.0, 98.9),
            InBand("twin_accuracy", 98.0, 98.9),
        ),
        {"drop_mrs": 0.1, "pruned_accuracy": 98.4, "twin_accuracy": 98.5},
        {"drop_mrs": 2.0, "pruned_accuracy": 96.4, "twin_accuracy": 99.4},
        "Points of accuracy on the 10,000 test images. Random units stand beside.",
        picture="accuracies",
        why=(
            "Size, choice and refit each have a part. At the same 4,019 parameters the copy pruned by the optimal "
            "brain surgeon with least squares ends {drop_obs} points below the twin, that of random units "
            "{drop_random}; a copy that stops at 8,069 parameters {drop_less}; and one whose means are not "
            "propagated {drop_zeros}. When both train on, the pruned copy is {drop_longer} points below its twin, "
            "mean over the next epochs."
        ),
    ),
    Claim(
        "E10.3", "Evci (2018), section 4.2", "Only removing 0.4 and 0.6 makes small peaks of the loss, gone later.",
        "shape",
        Every(
            Difference("smaller_large_jump", above=0), Difference("larger_small_jump", below=0.01),
            Difference("train_loss_gap", below=0.01),
        ),
        {"smaller_large_jump": 0.05, "larger_small_jump": 0.0, "train_loss_gap": 0.0},
        {"smaller_large_jump": -0.01, "larger_small_jump": 0.1, "train_loss_gap": 0.1},
        "Rise of the mean loss on 5,000 training images at the rounds of 0.4 and 0.6 (the smaller) and of 0.1 and 0.2 "
        "(the larger), and the gap to the twin at the end.",
        picture="losses",
        why=(
            "How much of the loss comes back, by what was removed: {train_loss_gap} nats above the twin's are left "
            "after mean replacement saliency, {train_loss_gap_obs} after the optimal brain surgeon with least "
            "squares and {train_loss_gap_random} after chance, all at 4,019 parameters; {train_loss_gap_less} at "
            "8,069."
        ),
    ),
    Claim(
        "E10.4", "Evci (2018), section 4.2", "Unit pruning leaves fewer parameters than pruning weights.", '"superior"',
        Difference("parameters_saved", above=0), {"parameters_saved": 4000}, {"parameters_saved": -500},
        "Dense parameters that are left when units of the copy with 90 % of its weights pruned are removed, those with "
        "the smallest share of non-zero weights into or out of them first, as long as it is as accurate on the test "
        "images as the copy whose units were pruned; less 4,019.",
        picture="sizes",
    ),
    Claim(
        "E11.2", "Evci (2018), section 4.2.1", "Magnitudes of the remaining weights are unaffected.", "shape",
        Share("survivor_correlations", low=0.8),
        {"survivor_correlations": [0.9, 0.9, 0.95, 0.9]}, {"survivor_correlations": [0.9, 0.5, 0.9, 0.9]},
        "Correlation with the twin's magnitudes over weights between units that remain, in each of the four layers.",
        picture="maps",
    ),
    Claim(
        "E12.1", "Evci (2018), section 4.2", "Units copied into smaller tensors save time and memory.",
        "no sparse form needed",
        Every(
            Exact("cut_difference", 1e-5, "twin_cut_difference"), Difference("time_ratio", below=1),
            Difference("bytes_ratio", below=1),
        ),
        {"cut_difference": 1e-7, "twin_cut_difference": 0.5, "time_ratio": 0.6, "bytes_ratio": 0.2},
        {"cut_difference": 0.1, "time_ratio": 1.2, "bytes_ratio": 1.0},
        "Against the masked network: outputs, relative to the largest; duration of 1,000 images and bytes of tensors. "
        "The control closes the same units of the twin.",
    ),
)  # fmt: skip
"""In the order of their numbers."""
