"""What Evci (2018), section 2.2, claims of pruning weights while training, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Exact, InBand, Share

PAPER = "Evci (2018), "
TAKEAWAY = (
    "Half of the weights go for free; 90 % cost {accuracy_drop_points:mean} points of test accuracy, which training "
    "on does not give back. The zeros gather at units: cut these, and refit what reads them. Where units with at most "
    "a tenth of their weights go, without any training, means in the biases leave {at_a_tenth.mean:mean%} of the test "
    "images right, least squares {at_a_tenth.least_squares:mean%}, and units that obs chooses for the same size "
    "{at_a_tenth.obs:mean%}."
)
LAYERS = ("each layer",)
WHY_JUMPS = (
    "At 90 % the loss jumps in every seed, by {jump_at_0.9}: so unevenly that the interval of five seeds can reach "
    "below the threshold. Half of the weights cost {jump_at_0.5} at once, {drop_points_while_0.5} points of accuracy "
    "an epoch later. What does not recover is the end: in the epochs that follow the first with 90 % closed, the twin "
    "gains {twin_gain_points:mean} points and the pruned network {pruned_gain_points:mean}, so that they stay apart, "
    "by {final_loss_gap} nats. Where the same fractions are closed in each layer by itself, jump ({each "
    "layer.jump_at_0.9} at 90 %) and gap ({each layer.final_loss_gap}) are larger."
)
WHY_HARM = (
    "It is the fraction. While half of the weights are closed, the pruned network is {drop_points_while_0.5} points "
    "behind after an epoch; after the first epoch with 90 % closed it is {drop_points_while_0.9} points behind. From "
    "then on the twin gains {twin_gain_points:mean} points and the pruned network {pruned_gain_points:mean}, so that "
    "training on does not heal it. Nor is it the single ranking: with 90 % of each layer closed by itself the drop is "
    "{each layer.accuracy_drop_points} points."
)
WHY_GATHER = (
    "The zeros gather in conv2 ({empty_filters[1]} empty filters) and fc1, and not in conv1: its weights start three "
    "times as large as fc1's (bounds 1/5 and 1/16), so that one ranking of all weights leaves "
    "{layer_density.conv1.weight:%} of them open, and {layer_density.fc1.weight:%} of fc1's. With 90 % of each layer "
    "closed by itself, {each layer.empty_filters[0]} of conv1's 8 filters are empty, and its densities by unit differ "
    "more than in {each layer.spread_percentile[0]:%} of permutations. The thesis's pictures are those of a fraction "
    "of each layer."
)
WHY_SIZE = (
    "One ranking of all weights leaves the convolutions most of theirs, so that few of their units are poor: with the "
    "fractions closed in each layer by itself, {each layer.parameters_left} parameters are left, at a drop of {each "
    "layer.removal_drop_points} points, though of a network that lost {each layer.accuracy_drop_points:mean} points "
    "before and not {accuracy_drop_points:mean}. And what reads the units is not refitted: at fraction 0.04, "
    "propagated means leave {at_about_half.mean:mean%} of the test images right, least squares "
    "{at_about_half.least_squares:mean%} and units that obs chooses for the same size {at_about_half.obs:mean%}, of "
    "{accuracy:mean%} before."
)

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
        WHY_JUMPS, LAYERS,
    ),
    Claim(
        "E4.2", PAPER + "introduction", "About 90 % of the weights can go without harm.", '"around 90 %"',
        Difference("accuracy_drop_points", below=0.3),
        {"accuracy_drop_points": 0.05}, {"accuracy_drop_points": 2.0},
        "Test accuracy of the twin less that of the pruned network, in points.",
        "training",
        WHY_HARM, LAYERS,
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
        WHY_GATHER, LAYERS,
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
        WHY_SIZE, LAYERS,
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
