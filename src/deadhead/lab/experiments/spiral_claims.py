"""What "Train first vs prune first in neural networks" claims, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Exact, InBand, Share

TITLE = '"Train first vs prune first in neural networks", '

CLAIMS = (
    Claim(
        "C1.1", TITLE + "random pruning", "The network is confident and correct at almost all points.", "shape",
        Every(Share("accuracy", low=0.98), Share("confidence", low=0.95)),
        {"accuracy": 0.99, "confidence": 0.99}, {"accuracy": 0.6, "confidence": 0.6},
        "On points that were not trained on; confidence is the mean probability of the chosen arm.",
    ),
    Claim(
        "C2.1", TITLE + "what is pruning", "With adjusted biases a constant node is free.", "no change",
        Exact("constant_unit_change", 1e-6, "bare_deletion_change"),
        {"constant_unit_change": 0.0, "bare_deletion_change": 0.5}, {"constant_unit_change": 0.1},
    ),
    Claim(
        "C3.1", TITLE + "random pruning", "Removing a random half breaks a large part of the plane.", '"large chunk"',
        Share("wrong_share", low=0.15), {"wrong_share": 0.3}, {"wrong_share": 0.02},
        "Median over random halves of the share of [-1, 1]^2 whose label differs from the trained network's.",
    ),
    Claim(
        "C3.2", TITLE + "random pruning", "Of the three orders only prune-train is high scoring.",
        '"the others just aren\'t"',
        Every(Difference("over_train_prune", above=0), Difference("over_fine_tuned", above=0)),
        {"over_train_prune": 0.3, "over_fine_tuned": 0.1}, {"over_train_prune": -0.1, "over_fine_tuned": -0.1},
        "Accuracy on held-out points, less that of train-prune and of train-prune-fine-tune.",
    ),
    Claim(
        "C3.3", TITLE + "random pruning", "Pruning and training do not commute.", "none",
        Difference("orders_less_two_runs", above=0.05),
        {"orders_less_two_runs": 0.2}, {"orders_less_two_runs": 0.0},
        "Disagreement of the two orders, less that of two prune-train runs with other orders of the data.",
    ),
    Claim(
        "C4.1", TITLE + "scatter plot", "Some weights are never updated, equal to machine precision.", "none",
        Share("random_never_moved", low=0.01), {"random_never_moved": 0.1}, {"random_never_moved": 0.0},
        "Share of the remaining weights between the hidden layers that neither order has moved.",
    ),
    Claim(
        "C4.2", TITLE + "scatter plot", "Training moves a band of weights by about 0.59.", "0.59",
        Every(InBand("band", 0.44, 0.74), Share("trough_to_peak", high=0.5)),
        {"band": 0.6, "trough_to_peak": 0.2}, {"band": 0.0, "trough_to_peak": 1.0},
        "Highest peak, away from 0, of the moves' density (kernel 0.03); 0 where there is none.",
    ),
    Claim(
        "C5.1", TITLE + "nonrandom pruning", "Removing the smallest deviations is invisible.", "no change",
        Every(Share("same_labels", low=0.99), Share("accuracy_drop", high=0.005)),
        {"same_labels": 1.0, "accuracy_drop": 0.0}, {"same_labels": 0.7, "accuracy_drop": 0.2},
    ),
    Claim(
        "C5.2", TITLE + "nonrandom pruning", "A significant fraction of neurons does little.", "none",
        Share("removable_share", low=0.3), {"removable_share": 0.5}, {"removable_share": 0.05},
        "Largest share of each layer, smallest deviation first, that costs at most 0.005 of accuracy.",
    ),
    Claim(
        "C5.3", TITLE + "nonrandom pruning", "Same nodes removed first: a similar picture, slightly different.", "none",
        Every(Share("inactive_agreement", 0.90, 0.999), Difference("agreement_over_random", above=0)),
        {"inactive_agreement": 0.95, "agreement_over_random": 0.2},
        {"inactive_agreement": 0.6, "agreement_over_random": -0.1},
    ),
    Claim(
        "C5.4", TITLE + "kernels", "The kernels of both orders correlate, imperfectly.", '"significant"',
        Share("inactive_move_correlation", 0.3, 0.95),
        {"inactive_move_correlation": 0.6}, {"inactive_move_correlation": 0.0},
        "Of what training added, because the shared start alone makes kernels correlate.",
    ),
    Claim(
        "C5.5", TITLE + "end", "Remaining neurons often end up in similar roles.", '"often"',
        Every(Share("inactive_unit_correlation", low=0.5), Difference("unit_correlation_over_random", above=0)),
        {"inactive_unit_correlation": 0.8, "unit_correlation_over_random": 0.2},
        {"inactive_unit_correlation": 0.1, "unit_correlation_over_random": -0.2},
        "Median over units of the correlation of their activations in both networks.",
    ),
)  # fmt: skip
"""In the order of the document."""

TAKEAWAY = ""
