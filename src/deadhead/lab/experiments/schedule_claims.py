"""What Evci (2018), section 2.2, claims of pruning weights while training, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Exact, InBand, Share

PAPER = "Evci (2018), "
TAKEAWAY = ""

CLAIMS = (
    Claim(
        "E4.1", PAPER + "section 2.2", "Fractions up to 0.5 cost little; at 0.8 and 0.9 the loss jumps and recovers.",
        "table 2.2",
        Every(
            Difference("jump_at_0.2", below=0.02), Difference("jump_at_0.5", below=0.02),
            Difference("jump_at_0.9", above=0.02), Difference("final_loss_gap", below=0.01),
        ),
        {"jump_at_0.2": 0.001, "jump_at_0.5": 0.005, "jump_at_0.9": 0.2, "final_loss_gap": 0.002},
        {"jump_at_0.2": 0.3, "jump_at_0.5": 0.5, "jump_at_0.9": 0.0, "final_loss_gap": 0.5},
        "Loss of held-out validation images right after weights are closed less right before; at the end, test loss "
        "less that of the twin.",
        "training",
    ),
    Claim(
        "E4.2", PAPER + "introduction", "About 90 % of the weights can go without harm.", '"around 90 %"',
        Difference("accuracy_drop_points", below=0.3),
        {"accuracy_drop_points": 0.05}, {"accuracy_drop_points": 2.0},
        "Test accuracy of the twin less that of the pruned network, in points.",
        "training",
    ),
    Claim(
        "E5.1", PAPER + "section 2.2", "Pruned weights gather at units, and whole filters are empty.",
        "2 of 8 and 2 of 16 filters empty",
        Every(Share("spread_percentile", low=0.99), Share("empty_filters", low=1)),
        {"spread_percentile": [1.0, 1.0, 1.0], "empty_filters": [2, 2]},
        {"spread_percentile": [0.5, 0.4, 0.6], "empty_filters": [0, 0]},
        "Share of permutations of a layer's open weights whose densities by unit differ less, for both convolutions "
        "and fc1; number of filters of each convolution without an open weight.",
        "convolutions",
    ),
    Claim(
        "E5.2", PAPER + "section 2.2", "A unit of conv2 lacks 3 to 4 of its 8 input channels.", "3 to 4",
        InBand("channels_missing", 2, 5), {"channels_missing": 3.5}, {"channels_missing": 0.3},
        "Mean over units of the number of channels of which at most 1 of 25 weights is open.",
        "convolutions",
    ),
    Claim(
        "E5.3", PAPER + "figure 2.11", "Units with few non-zero weights can go: half of the size is free.",
        "half of 20,522",
        Every(Share("parameters_left", high=10261), Share("removal_drop_points", high=0.2)),
        {"parameters_left": 9000, "removal_drop_points": 0.05}, {"parameters_left": 19000, "removal_drop_points": 0.5},
        "The smallest network, of those for the fractions tried, whose validation accuracy is at most 0.2 points below "
        "that before units are removed; its drop of test accuracy. Means go into the biases.",
        "units",
    ),
    Claim(
        "E5.4", PAPER + "section 2.2", "Units without weights on a side go at no loss where means are propagated.",
        '"slightly smaller test accuracy" without',
        Exact("output_change_with_means", 1e-5, "output_change_without"),
        {"output_change_with_means": [1e-7], "output_change_without": [0.1]}, {"output_change_with_means": [0.01]},
        "Largest change of a test output, relative to the largest output, at fraction 0; without propagation it must "
        "be larger. A seed without such a unit is no case.",
        "units",
    ),
    Claim(
        "E11.1", PAPER + "section 2.2", "The twin's large weights are open, and empty conv2 units stripe fc1.",
        "2 stripes",
        Every(Share("largest_kept", low=0.7), Share("stripe_density_ratio", high=0.25)),
        {"largest_kept": 0.9, "stripe_density_ratio": 0.05}, {"largest_kept": 0.3, "stripe_density_ratio": 0.9},
        "Share of the largest 5 % of each of the twin's layers that are open in the pruned network; density of fc1's "
        "columns that read the two emptiest units of conv2, over that of the others (the thesis has two that are "
        "empty; where none is, the two emptiest have to show the stripes).",
        "connected",
    ),
)  # fmt: skip
"""In the order of the thesis."""
