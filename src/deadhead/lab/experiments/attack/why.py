"""Why claims of the experiment `attack` do not hold, or only in part, in sentences whose numbers are results."""

TAKEAWAY = (
    "A few steps that are far too large harm units and pass undetected: with batch norm, ten steps at 1,000 times "
    "the learning rate take {late_norm_killed:mean%} of the attacked units below half of their penalty and change "
    "the training loss by {late_norm_loss_change:mean%}. To find such units rank by the mean replacement saliency "
    "(mean rank correlation with the penalty {mean_rho.mrs:mean}), not by the norm of the weights "
    "({mean_rho.incoming:mean}), which grows where the unit becomes useless."
)

WHY = {
    "E8.1": (
        "Attacked units do stay frozen: {frozen_attacked_stay:mean%} of those that are frozen at half. Of the "
        "units that thaw {thawed_in_relu_fc1:mean%} are of fc1 in the ReLU network: the intact ReLU network, too, "
        "has dead units in fc1 ({relu_fc1_dead_intact} of 64 from step 1,000 on), which are on for a few images "
        "only. One image for which such a unit is on is enough for a gradient, and what it reads goes on to "
        "change while the layers below learn."
    ),
    "E8.3": (
        "Dead units that were attacked are frozen: {dead_attacked_frozen:mean%} of them. But "
        "{dead_in_relu_fc1:mean%} of all dead units are of fc1 in the ReLU network: the intact ReLU network, too, "
        "has dead units in fc1 ({relu_fc1_dead_intact} of 64 from step 1,000 on), which are on for a few images "
        "only. Their penalty, a sum over images, is about 0, and so is the sum of their gradients for "
        "{dead_small_gradient:mean%} of the dead; the largest gradient, which frozen is about, is not."
    ),
    "E9.2": (
        "Penalties go on to rise, slower: in the last fifth they are {mrp_settled_by_layer[0]} (conv1), "
        "{mrp_settled_by_layer[1]} (conv2) and {mrp_settled_by_layer[2]} (fc1) times those of steps 2,000 to "
        "4,000. The source measured more often and judged by eye."
    ),
    "E9.3": (
        "It is a matter of strength. At 100 times the learning rate from step 50 on the penalty falls for "
        "{early_norm_lowered:mean%} of the units and below half for {early_norm_killed:mean%}; at 1,000 times "
        "from step 2,000 on it falls below half for {late_norm_killed:mean%}. With batch norm before the "
        "nonlinearity 100 times takes {batch norm first.early_norm_killed:mean%} below half, 1,000 times "
        "{batch norm first.late_norm_killed:mean%}."
    ),
    "E9.5": (
        "Log ratios to the intact unit: weights {killed_weights}, outgoing weights {killed_outgoing}, output "
        "gradient {killed_gradient}; the entropy changes by {killed_entropy}. Outgoing weights cannot fall by "
        "much within 1,000 to 1,500 steps at this learning rate, whatever their gradient is."
    ),
    "E9.6": (
        "The penalty of the most harmed run and of the least differ by a factor of {start_ratios[0]} in conv1 and "
        "of {start_ratios[1]} in conv2, where 100 times the learning rate hardly harms at any start (mean log q "
        "of all these runs {starts_norm_log_q}). Kendall's tau with the start is {start_tau}; four starts of two "
        "units are few, and a run that was attacked at 500 had ten times as long to recover by step 6,000 as one "
        "attacked at 5,000."
    ),
    "E9.8": (
        "By layer the rank correlation is lowest in conv1 with Tanh ({mrs_rho[6]}), where saturation makes the "
        "estimate of a large change too small, and in fc1 with batch norm ({mrs_rho[2]}), whose 64 penalties lie "
        "close together. The unit with the smallest saliency is that with the smallest penalty in "
        "{smallest_agrees:mean%} of layers, in fc1 with batch norm in {smallest_agrees_by_layer[2]:mean%}; what "
        "it picks has {smallest_over_median:mean} times the layer's median penalty. The source compares runs of "
        "the same unit: there it picks the smallest in {smallest_run_agrees:mean%}."
    ),
    "E9.10": (
        "Over runs of one unit from different starts rho is {weights_gradient_rho}, from five runs each: the "
        "weights grow by a similar factor in all attacked runs, so that the intact one makes most of the "
        "correlation."
    ),
    "E9.12": (
        "Every attack saturates units (the share of activations beyond 0.95 rises by {tanh_saturation_rise}), but "
        "only in conv1, the layer that the source shows, does the penalty fall for all: for "
        "{late_tanh_lowered_by_layer[0]:mean%} of its units, for {late_tanh_lowered_by_layer[1]:mean%} in conv2 "
        "and {late_tanh_lowered_by_layer[2]:mean%} in fc1. There the attack is stronger, too: weights grow to "
        "{late_tanh_weights_by_layer[0]:mean} times the intact ones, against {late_tanh_weights_by_layer[1]:mean} "
        "and {late_tanh_weights_by_layer[2]:mean}. A unit that is saturated by less is a larger signal than "
        "before, and not yet an empty one."
    ),
    "E9.13": (
        "Log ratio of the penalty at step 500 {tanh_early_log_q}; by step 8,000 it changes by {tanh_early_fades}; "
        "later starts saturate {tanh_later_saturation} more of the activations."
    ),
    "E9.14": (
        "It depends on the multiplier, which the source does not print. At 100 times no unit of conv2 dies "
        "({mild_relu_killed:mean%} below half) and {relu_gained[1]:mean%} gain. At 1,000 times the raw outputs of "
        "{late_relu_all_negative:mean%} of the units are all negative, a shift that nothing takes back, and "
        "{late_relu_killed:mean%} fall below half, {late_relu_killed_of_alive:mean%} of those that were not dead "
        "before, against {late_norm_killed:mean%} with batch norm ({late_norm_all_negative:mean%} all negative) "
        "and {late_tanh_killed:mean%} with Tanh."
    ),
    "E9.15": (
        "Units of conv2 that die with all outputs negative: {relu_conv2_dead} of 6 attacks; the others' outputs "
        "widen by {relu_conv2_width}. Only 1,000 times the learning rate kills: at 100 times "
        "{mild_relu_killed:mean%} do."
    ),
    "E9.16": (
        "Mean log q at 1,000 times from step 2,000 on: {late_norm_log_q} with batch norm, {late_tanh_log_q} with "
        "Tanh, {late_relu_log_q} with ReLU, where units die outright."
    ),
    "E9.17": (
        "The log ratio of the others' penalty is {others_log_ratio}: a difference of this size comes and goes "
        "with the batches, and ReLU units with q > 1 are few at 1,000 times ({relu_gained[0]:mean%})."
    ),
}

VARIANTS = dict.fromkeys(("E9.3", "E9.4", "E9.5"), ("batch norm first",))
"""Claims of batch norm alone are judged with it before the nonlinearity, too."""
