"""What Evci (2018), chapter 3, claims of frozen, dead and attacked units, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Document
from deadhead.lab.experiments.attack.why import VARIANTS, WHY
from deadhead.lab.judges import Difference, Every, InBand, Share

_claim = Document("Evci (2018)", WHY, VARIANTS).claim


RATIO = (
    "q is the unit's mean replacement penalty over that of the same unit of the intact network at the same step, when "
    "the copy ends; in logarithms it is at least 0.001. "
)

CLAIMS = (
    _claim(
        "E8.1", "section 3.2", "A frozen unit stays frozen.", "bold type",
        Share("frozen_stay", low=0.9), {"frozen_stay": 1.0}, {"frozen_stay": 0.3},
        "Of the units of all networks that are frozen at half of the time from start to end, the share that is so at "
        "the end. Frozen: the largest gradient at the raw output over images and positions is below 1 % of the intact "
        "layer's median; dead: the penalty is. The source sets no threshold.",
        picture="states",
    ),
    _claim(
        "E8.2", "chapter 3", "A dead unit stays dead.", '"most likely"',
        Share("dead_stay", low=0.8), {"dead_stay": 1.0}, {"dead_stay": 0.3}, "Of the attacked units.",
        picture="states",
    ),
    _claim(
        "E8.3", "sections 3.4, 4.1.2", "Dead units are mostly frozen; frozen ones need not be dead.", "none",
        Every(Share("dead_frozen", low=0.8), Share("frozen_not_dead", low=1)),
        {"dead_frozen": 0.95, "frozen_not_dead": 2}, {"dead_frozen": 0.1, "frozen_not_dead": 0},
        "Units of all layers of all networks at the end: the share of dead ones that are frozen, and how many frozen "
        "ones are not dead.",
        picture="states",
    ),
    _claim(
        "E9.1", "sections 3.4-3.6", "The intact networks reach these accuracies.", "BN 67 %, Tanh 64 %, ReLU 61 %",
        Every(*(InBand(f"accuracies_{name}", low, low + 0.08) for name, low in
                (("norm", 0.63), ("tanh", 0.60), ("relu", 0.57)))),
        {"accuracies_norm": 0.67, "accuracies_tanh": 0.64, "accuracies_relu": 0.61},
        {"accuracies_norm": 0.4, "accuracies_tanh": 0.4, "accuracies_relu": 0.1},
        "Within 4 points, on test images; our images went through a lossy compression.",
        picture="intact",
    ),
    _claim(
        "E9.2", "section 3.4", "Penalty and norms rise; the penalty settles by step 2000.", "2000",
        Every(Share("mrp_growth", low=1.0), Share("mrp_settled", 0.75, 1.25), Share("norm_growth", low=1.0)),
        {"mrp_growth": 2.0, "mrp_settled": 1.0, "norm_growth": 1.5},
        {"mrp_growth": 0.5, "mrp_settled": 2.0, "norm_growth": 0.9},
        "Means over the units of conv1, as in figure 3.1, with batch norm: penalty at step 2000 over that at 100; in "
        "the last fifth over that in 2000-4000; L1 norm of the weights at the end over that at 100.",
        picture="intact",
    ),
    _claim(
        "E9.3", "section 3.4", "Attacks kill some units and spare others.", "unit 0 yes, 4 no",
        Every(Difference("early_norm_log_q", below=0), Share("early_norm_killed", 0.2, 0.9)),
        {"early_norm_log_q": -1.0, "early_norm_killed": 0.5}, {"early_norm_log_q": 0.3, "early_norm_killed": 0.0},
        RATIO + "Mean log q, and the share of attacked units with q < 0.5.",
        picture="ratios",
    ),
    _claim(
        "E9.4", "section 3.4", "Attacks leave the training loss unchanged.", "unchanged",
        Difference("early_norm_loss_change", below=0.02),
        {"early_norm_loss_change": 0.005}, {"early_norm_loss_change": 0.2},
        "Mean absolute relative change of the training loss over the last 500 steps, on the same batches.",
        picture="losses",
    ),
    _claim(
        "E9.5", "section 3.4",
        "Of killed units weights go up, outgoing weights and output gradient down; values are squeezed to the left.",
        "figure 3.2",
        Every(
            Difference("killed_weights", above=0), Difference("killed_outgoing", below=0),
            Difference("killed_gradient", below=0), Difference("killed_entropy", below=0),
        ),
        {"killed_weights": 2.0, "killed_outgoing": -0.5, "killed_gradient": -1.0, "killed_entropy": -0.5},
        {"killed_weights": -0.1, "killed_outgoing": 0.1, "killed_gradient": 0.1, "killed_entropy": 0.1},
        "Mean log ratios to the intact unit over units with q < 0.5 of all attacks with batch norm; the entropy is "
        "that of a histogram of what the next layer reads, in 32 bins over its own range.",
        picture="histograms",
    ),
    _claim(
        "E9.6", "section 3.4.1", "Success depends on the first step of the attack, without trend.",
        "500 (second), 1500, 2500 (best), 5000",
        Every(Share("start_ratios", low=1.5), InBand("start_tau", -0.2, 0.2)),
        {"start_ratios": [3.0, 4.0], "start_tau": 0.0}, {"start_ratios": [1.1, 1.2], "start_tau": 0.9},
        "First units of conv1 and conv2: largest over smallest penalty at step 6000 over four starts, and Kendall's "
        "tau of start and penalty.",
        picture="starts",
    ),
    _claim(
        "E9.7", "section 3.4.2", "A bigger multiplier kills more.", "figure 3.4",
        Difference("multiplier_tau", below=-0.3), {"multiplier_tau": -0.9}, {"multiplier_tau": 0.5},
        "Kendall's tau of multiplier and q, mean of the first units of conv1 and conv2.",
        picture="multipliers",
    ),
    _claim(
        "E9.8", "section 3.7", "The saliency (MRS) ranks units as the penalty (MRP) does.",
        '"never failed at choosing the smallest"',
        Every(Share("mrs_rho", low=0.8), Share("smallest_agrees", low=0.9)),
        {"mrs_rho": [0.95] * 9, "smallest_agrees": 0.95}, {"mrs_rho": [0.2] * 9, "smallest_agrees": 0.3},
        "Spearman's rho within layers, mean over the copies of each network, worst layer; and how often the unit with "
        "the smallest saliency has the smallest penalty.",
        picture="ranks",
    ),
    _claim(
        "E9.9", "section 3.7", "Output gradient and norm predict the penalty worse.", "none",
        Every(Difference("mrs_over_gradient", above=0), Difference("mrs_over_norm", above=0)),
        {"mrs_over_gradient": 0.3, "mrs_over_norm": 0.4}, {"mrs_over_gradient": -0.1, "mrs_over_norm": -0.1},
        "Mean rho of the saliency less that of each.",
        picture="ranks",
    ),
    _claim(
        "E9.10", "section 3.4.1", "Weights and output gradient correlate negatively over runs.", "figure 3.3",
        Difference("weights_gradient_rho", below=-0.3), {"weights_gradient_rho": -0.8}, {"weights_gradient_rho": 0.4},
        "Spearman's rho over the runs of E9.6 and the intact one.",
        picture="starts",
    ),
    _claim(
        "E9.11", "section 3.7", "A low penalty may come with a big norm.", "none",
        Share("low_penalty_big_norm", low=1), {"low_penalty_big_norm": 5}, {"low_penalty_big_norm": 0},
        "Attacked units in the lowest quarter of their layer by penalty and in the top quarter by L1 norm.",
        picture="norms",
    ),
    _claim(
        "E9.12", "section 3.5", "All attacks on Tanh units limit the penalty, by saturation.", "4 units to 0.2-0.3",
        Every(Share("tanh_below_1", low=0.9), Difference("tanh_saturation_rise", above=0)),
        {"tanh_below_1": 1.0, "tanh_saturation_rise": 0.4}, {"tanh_below_1": 0.3, "tanh_saturation_rise": -0.1},
        RATIO + "Share of attacked units with q < 1; rise of the share of activations beyond 0.95.",
        picture="ratios",
    ),
    _claim(
        "E9.13", "section 3.5.1", "With Tanh a start at 50 raises the penalty, then fades; later starts saturate more.",
        "50, 2500, 5000",
        Every(
            Difference("tanh_early_log_q", above=0), Difference("tanh_early_fades", below=0),
            Difference("tanh_later_saturation", above=0),
        ),
        {"tanh_early_log_q": 0.7, "tanh_early_fades": -0.5, "tanh_later_saturation": 0.3},
        {"tanh_early_log_q": -0.7, "tanh_early_fades": 0.5, "tanh_later_saturation": -0.3},
        "Unit 16 of fc1: log ratio of penalties at step 500; that at step 8000 less it; saturation at step 6000 by "
        "later starts less that by the first.",
        picture="tanh_starts",
    ),
    _claim(
        "E9.14", "section 3.6", "ReLU is hard to kill; most units gain penalty.", '"most"',
        Every(
            Difference("relu_killed_less_norm", below=0), Difference("relu_killed_less_tanh", below=0),
            Share("relu_gained", low=0.501),
        ),
        {"relu_killed_less_norm": -0.5, "relu_killed_less_tanh": -0.4, "relu_gained": [0.7, 0.8]},
        {"relu_killed_less_norm": 0.2, "relu_killed_less_tanh": 0.2, "relu_gained": [0.1, 0.1]},
        "Share with q < 0.5 under the same attack, 1,000 from step 2000; share with q > 1 at 1,000 and at 100.",
        picture="ratios",
    ),
    _claim(
        "E9.15", "section 3.6.1", "Yet some ReLU units die, all output negative; survivors' outputs widen.",
        "2 of 4; roughly 2 x",
        Every(Share("relu_conv2_dead", low=1), InBand("relu_conv2_width", 1.3, 3.5)),
        {"relu_conv2_dead": 2, "relu_conv2_width": 2.0}, {"relu_conv2_dead": 0, "relu_conv2_width": 1.0},
        "conv2, both multipliers: units with 99.9 % of raw outputs below 0 and q < 0.01; median of the survivors' "
        "ratio of standard deviations.",
        picture="relu",
    ),
    _claim(
        "E9.16", "section 3.7", "ReLU with batch norm acts as a bounded nonlinearity.", "like Tanh",
        Difference("norm_distance_tanh_less_relu", below=0),
        {"norm_distance_tanh_less_relu": -0.5}, {"norm_distance_tanh_less_relu": 0.5},
        "Distance of its mean log q from Tanh's less that from ReLU's, under the same attack, 1,000 from step 2000.",
        picture="ratios",
    ),
    _claim(
        "E9.17", "section 3.7", "A raised penalty lowers the others' (suspected).", '"slight"',
        Difference("others_log_ratio", below=0), {"others_log_ratio": -0.1}, {"others_log_ratio": 0.1},
        "ReLU units with q > 1: log ratio of the summed penalty of the other units of the layer.",
        picture="states",
    ),
)  # fmt: skip
"""In the order of the document."""
