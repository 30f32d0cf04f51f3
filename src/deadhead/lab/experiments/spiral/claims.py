"""What "Train first vs prune first in neural networks" claims, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Exact, InBand, Share

TITLE = '"Train first vs prune first in neural networks", '

ALL = ("whole batches", "twice the rate", "ten times the rate", "ten times the rate, half the turns")
WHY = {
    "C3.2": "Prune-train and fine-tuning end equally accurate, because fine-tuning is training, and a faster one: "
    "after one epoch it is at {curves.random, train, prune, fine-tune[0]:%}, after five at {curves.random, train, "
    "prune, fine-tune[2]:%}, after ten at {curves.random, train, prune, fine-tune[3]:%}, where prune-train is at "
    "{curves.random, prune, train[0]:%}, {curves.random, prune, train[2]:%} and {curves.random, prune, train[3]:%}. "
    "The post does not say how long it fine-tuned. With ten times the learning rate, at which units die, fine-tuning "
    "is worse in some seeds (the difference is {ten times the rate.over_fine_tuned}).",
    "C4.1": "{never_moved:%} of the trained network's weights between the hidden layers were never moved: their unit "
    "is dead from the start, or the two units that they join are never active on the same point. Of the quarter that "
    "remains {random_never_moved:%} was moved by neither order, and in some seeds none. Ten times the rate kills "
    "units in its first step: {ten times the rate.never_moved:%} never moved, and {ten times the "
    "rate.random_never_moved:%} in neither order.",
    "C4.2": "The band is a trace of the learning rate. Adam divides a gradient by its size, so that a weight whose "
    "unit has a gradient in the first step and then dies moves by one learning rate, and by five more through "
    "momentum: by {one_gradient_move:mean} here, where other weights hide the band. At ten times the rate that is "
    "{ten times the rate.one_gradient_move:mean}, and there is a band at {ten times the rate.band} in every seed. The "
    "post's 0.59 says that its rate was 0.1, and at that rate most of what it reports comes out: see the variants of "
    "the other claims.",
    "C5.1": "Half is more than does nothing: {dead_share:%} of the units are dead. At twice the rate {twice the "
    "rate.dead_share:%} are, at ten times {ten times the rate.dead_share:%}, killed by the first steps, and there "
    "removing half is invisible. What is lost here is lost by the mean, and not for good: with the others refitted by "
    "least squares the same half leaves {accuracies.inactive, train, prune, refit:%} right, and the half that the "
    "optimal brain surgeon chooses {accuracies.obs, train, prune, refit:%}, without any training.",
    "C5.2": "By the smallest deviation {removable_share:%} of each layer can go, about as many as are dead "
    "({dead_share:%}; at ten times the rate {ten times the rate.removable_share:%} and {ten times the "
    "rate.dead_share:%}). By the optimal brain surgeon with least squares {removable_by.obs, least squares:%} can go: "
    "few units do little, but most do what others can do.",
    "C5.3": "Training after removal finds a good network, and removal after training breaks one, so that the pictures "
    "agree on {inactive_agreement:%} only. Where the removed half was dead, they agree on {ten times the "
    "rate.inactive_agreement:%}, and with an easier spiral of half the turns on {ten times the rate, half the "
    "turns.inactive_agreement:%}.",
    "C5.4": "What training adds to the two kernels hardly correlates ({inactive_move_correlation}), because without "
    "their neighbours units settle elsewhere. The post plots whole kernels, whose shared start correlates by itself "
    "({inactive_kernel_correlation} here). At its learning rate and with half the turns, for which units have less "
    "far to go, even what training adds correlates ({ten times the rate, half the turns.inactive_move_correlation}).",
    "C5.5": "Kept units are more alike in both orders than those of a random half, by {unit_correlation_over_random}, "
    "but the median is {inactive_unit_correlation}: a unit that is dead in either network counts as 0. Among those "
    "that live in both it is {inactive_live_unit_correlation}, against {random_live_unit_correlation} for a random "
    "half. At ten times the rate and with half the turns it is {ten times the rate, half the "
    "turns.inactive_live_unit_correlation}.",
}
"""Why claims do not hold, or only in part."""

CLAIMS = (
    Claim(
        "C1.1", TITLE + "random pruning", "The network is confident and correct at almost all points.", "shape",
        Every(Share("accuracy", low=0.98), Share("confidence", low=0.95)),
        {"accuracy": 0.99, "confidence": 0.99}, {"accuracy": 0.6, "confidence": 0.6},
        "On points that were not trained on; confidence is the mean probability of the chosen arm.",
        picture="decisions",
    ),
    Claim(
        "C2.1", TITLE + "what is pruning", "With adjusted biases a constant node is free.", "no change",
        Exact("constant_unit_change", 1e-6, "bare_deletion_change"),
        {"constant_unit_change": 0.0, "bare_deletion_change": 0.5}, {"constant_unit_change": 0.1},
        picture="decisions",
    ),
    Claim(
        "C3.1", TITLE + "random pruning", "Removing a random half breaks a large part of the plane.", '"large chunk"',
        Share("wrong_share", low=0.15), {"wrong_share": 0.3}, {"wrong_share": 0.02},
        "Median over random halves of the share of [-1, 1]^2 whose label differs from the trained network's.",
        picture="decisions",
    ),
    Claim(
        "C3.2", TITLE + "random pruning", "Of the three orders only prune-train is high scoring.",
        '"the others just aren\'t"',
        Every(Difference("over_train_prune", above=0), Difference("over_fine_tuned", above=0)),
        {"over_train_prune": 0.3, "over_fine_tuned": 0.1}, {"over_train_prune": -0.1, "over_fine_tuned": -0.1},
        "Accuracy on held-out points, less that of train-prune and of train-prune-fine-tune.",
        picture="ways", why=WHY["C3.2"], variants=ALL,
    ),
    Claim(
        "C3.3", TITLE + "random pruning", "Pruning and training do not commute.", "none",
        Difference("orders_less_two_runs", above=0.05),
        {"orders_less_two_runs": 0.2}, {"orders_less_two_runs": 0.0},
        "Disagreement of the two orders, less that of two prune-train runs with other orders of the data.",
        picture="decisions",
    ),
    Claim(
        "C4.1", TITLE + "scatter plot", "Some weights are never updated, equal to machine precision.", "none",
        Share("random_never_moved", low=0.01), {"random_never_moved": 0.1}, {"random_never_moved": 0.0},
        "Share of the remaining weights between the hidden layers that neither order has moved.",
        picture="kernels", why=WHY["C4.1"], variants=ALL,
    ),
    Claim(
        "C4.2", TITLE + "scatter plot", "Training moves a band of weights by about 0.59.", "0.59",
        Every(InBand("band", 0.44, 0.74), Share("trough_to_peak", high=0.5)),
        {"band": 0.6, "trough_to_peak": 0.2}, {"band": 0.0, "trough_to_peak": 1.0},
        "Highest peak, away from 0, of the moves' density (kernel 0.03); 0 where there is none.",
        picture="moves", why=WHY["C4.2"], variants=ALL,
    ),
    Claim(
        "C5.1", TITLE + "nonrandom pruning", "Removing the smallest deviations is invisible.", "no change",
        Every(Share("same_labels", low=0.99), Share("accuracy_drop", high=0.005)),
        {"same_labels": 1.0, "accuracy_drop": 0.0}, {"same_labels": 0.7, "accuracy_drop": 0.2},
        picture="decisions", why=WHY["C5.1"], variants=ALL,
    ),
    Claim(
        "C5.2", TITLE + "nonrandom pruning", "A significant fraction of neurons does little.", "none",
        Share("removable_share", low=0.3), {"removable_share": 0.5}, {"removable_share": 0.05},
        "Largest share of each layer, smallest deviation first, that costs at most 0.005 of accuracy.",
        picture="ways", why=WHY["C5.2"], variants=ALL,
    ),
    Claim(
        "C5.3", TITLE + "nonrandom pruning", "Same nodes removed first: a similar picture, slightly different.", "none",
        Every(Share("inactive_agreement", 0.90, 0.999), Difference("agreement_over_random", above=0)),
        {"inactive_agreement": 0.95, "agreement_over_random": 0.2},
        {"inactive_agreement": 0.6, "agreement_over_random": -0.1},
        picture="decisions", why=WHY["C5.3"], variants=ALL,
    ),
    Claim(
        "C5.4", TITLE + "kernels", "The kernels of both orders correlate, imperfectly.", '"significant"',
        Share("inactive_move_correlation", 0.3, 0.95),
        {"inactive_move_correlation": 0.6}, {"inactive_move_correlation": 0.0},
        "Of what training added, because the shared start alone makes kernels correlate.",
        picture="kernels", why=WHY["C5.4"], variants=ALL,
    ),
    Claim(
        "C5.5", TITLE + "end", "Remaining neurons often end up in similar roles.", '"often"',
        Every(Share("inactive_unit_correlation", low=0.5), Difference("unit_correlation_over_random", above=0)),
        {"inactive_unit_correlation": 0.8, "unit_correlation_over_random": 0.2},
        {"inactive_unit_correlation": 0.1, "unit_correlation_over_random": -0.2},
        "Median over units of the correlation of their activations in both networks.",
        picture="kernels", why=WHY["C5.5"], variants=ALL,
    ),
)  # fmt: skip
"""In the order of the document."""

TAKEAWAY = (
    "Refit what remains, and half of a trained network's units can go in one step and without training: chosen by "
    "the optimal brain surgeon they leave {accuracies.obs, train, prune, refit:mean%} of held-out points right, "
    "chosen by the smallest deviation {accuracies.inactive, train, prune, refit:mean%}, but with mean replacement "
    "{accuracies.inactive, train, prune:mean%}, and a random half {accuracies.random, train, prune:mean%}. Training "
    "repairs a random half within ten epochs, so that in the end order does not matter; units that do nothing are "
    "mostly made by large first steps ({dead_share:mean%} are dead at Adam's 0.01, {ten times the "
    "rate.dead_share:mean%} at 0.1)."
)
