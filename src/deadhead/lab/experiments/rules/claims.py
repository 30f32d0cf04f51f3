"""What "Visualizing Neural networks, how to blame the bias" claims of relevance rules, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Every, Exact, Share

TITLE = '"Visualizing Neural networks, how to blame the bias", '
RANDOM = "Random networks in float64: three hidden layers of 30, and two convolutions with max-pool; 100 inputs. "

TAKEAWAY = (
    "LRP computed by multipliers, relevance over value, is LRP to rounding, needs no stabiliser and survives blank "
    "inputs; a stabiliser of {blip:mean} changes relevance near zero by {near_zero.r_form_blip[3]:mean%} of the "
    "largest. Let biases have relevance of their own: left out, relevance under biases 16 times as large adds up to "
    "{lrp_blowup[2]:mean} times the output (99th percentile), with them to {blame_bias_blowup[2]:mean} times."
)

CLAIMS = (
    Claim(
        "B1.1", TITLE + "Rephrasing Nonlinearity", "Slope equals gradient if ReLU is the only nonlinearity.", "same",
        Exact("slope_error", 1e-12, "tanh_slope_error"),
        {"slope_error": 1e-15, "tanh_slope_error": 0.1}, {"slope_error": 1e-3},
        RANDOM + "Slopes are also computed as quotients b / a in plain tensors; tanh is the control.",
    ),
    Claim(
        "B1.2", TITLE + "Repeat", "Of all rules only repeat is nonlinear in R(b).", "shape",
        Exact("superposition_error", 1e-12, "repeat_superposition_error"),
        {"superposition_error": 1e-15, "repeat_superposition_error": 0.3}, {"superposition_error": 0.1},
        "The relevance of a sum of two outputs against the sum of theirs, for each combination of rules, blip 0.01.",
        picture="combinations",
    ),
    Claim(
        "B2.1", TITLE + "Simplifying the LRP", "LRP without blip conserves the sum of relevance across layers.",
        "conserved", Exact("conservation_error", 1e-12, "gradient_sum_error"),
        {"conservation_error": 1e-15, "gradient_sum_error": 0.5}, {"conservation_error": 1e-6},
        RANDOM + "Without biases, at every cut, as a share of the sum of absolute relevance; what rules "
        "absorb counts as missing. The control is the gradient rule on R.",
    ),
    Claim(
        "B4.1", TITLE + "Rephrasing",
        "Q = R / a turns normalised into gradient and ignore into slope; the sum of a Q is conserved.", "table",
        Every(
            Exact("q_form_error", 1e-9, "gradient_form_error"), Exact("q_sum_error", 1e-12, "gradient_form_sum_error")
        ),
        {"q_form_error": 1e-13, "gradient_form_error": 0.1, "q_sum_error": 1e-15, "gradient_form_sum_error": 0.1},
        {"q_form_error": 1e-3, "q_sum_error": 1e-3},
        "Without biases, in every layer, where |a| > 0.001: the library and the formulas for Q against those for R. "
        "The control is the derivative of tanh in the place of its slope.",
    ),
    Claim(
        "B4.2", TITLE + "Rephrasing Matrix Multiplication", "The form Q has no huge numbers near zero.", '"vanished"',
        Share("r_over_q_error", low=100.0), {"r_over_q_error": 1000.0}, {"r_over_q_error": 1.1},
        "Float32, without biases and without blip; inputs are chosen so that ten sums of the first layer are 1e-6. "
        "Errors are medians over samples, against float64; the number is that of R over that of Q.",
        picture="near-zero",
        why="Nothing vanishes, because nothing was huge: R is itself the value times a bounded Q, so that R / b "
        "divides small by as small. At sums of 1e-6 the form R errs by {near_zero.r_form[3]} and the form Q by "
        "{near_zero.q_form[3]}. What Q does away with is the exact zero: of images with a blank corner, "
        "{blank_r_form_nan:mean%} have 0 / 0 in the form R and {blank_q_form_nan:mean%} in the form Q. And the blip "
        "that was to help, here {blip}, is what spoils relevance near zero: by {near_zero.r_form_blip[3]} of the "
        "largest. Large numbers come from biases outside of the denominator, see B6.1.",
    ),
    Claim(
        "B5.1", TITLE + "End conditions", "Starting from Q = 1 and multiplying by the input at the end is LRP.", "same",
        Exact("ends_error", 1e-10, "no_input_factor_error"),
        {"ends_error": 1e-13, "no_input_factor_error": 1.0}, {"ends_error": 1e-3},
        "Without biases. The control leaves the factor at the end away.",
    ),
    Claim(
        "B6.1", TITLE + "What the actual problem was", "Large biases make LRP without blip unstable.", '"scaling up"',
        Every(Share("lrp_over_blame", low=10.0), Share("lrp_rise", low=1.0)),
        {"lrp_over_blame": 50.0, "lrp_rise": 3.0}, {"lrp_over_blame": 1.0, "lrp_rise": 0.9},
        "The denominator is without the bias, as in the essay's rule. 99th percentile over samples of the sum of "
        "absolute relevance over the output, at biases times 16, over the same of blame the bias (its biases "
        "included); and how much it rises at least from one scale to the next.",
        picture="biases",
    ),
    Claim(
        "B6.2", TITLE + "Solution 1", "Ones for biases restore conservation, one shared one gets their sum, and f(0) "
        "counts as a bias.", "sum",
        Exact("ones_error", 1e-12, "without_ones_error"),
        {"ones_error": 1e-15, "without_ones_error": 0.5}, {"ones_error": 1e-3},
        "Sigmoid networks with biases, at every cut. f(0) gets what the bias gets in 0.5 + 0.5 tanh(x / 2). The "
        "control leaves the ones away.",
    ),
    Claim(
        "B7.1", TITLE + "Solution 2", "The Rescale rule is symmetric in input and baseline.", "symmetric",
        Exact("swap_error", 1e-12, "gradient_swap_error"),
        {"swap_error": 1e-15, "gradient_swap_error": 0.3}, {"swap_error": 1e-3},
        "ReLU, sigmoid and max-pool: contributions change their sign alone when both change places. The control takes "
        "gradients at either end.",
    ),
    Claim(
        "B7.2", TITLE + "Solution 2", "The soft maximum's limit and a + relu(b - a) suggest different relevance.",
        "differ", Every(Exact("soft_limit_error", 1e-6, "fold_difference"), Share("fold_differs_share", low=0.10)),
        {"soft_limit_error": 1e-9, "fold_difference": 1.0, "fold_differs_share": 0.5},
        {"soft_limit_error": 0.1, "fold_differs_share": 0.0},
        "Random pairs and baselines; the essay's m = exp(sum log(eps x)) is read as eps log sum exp(x / eps), compared "
        "with its limit where the candidates are more than 0.05 apart, at eps = 0.001.",
    ),
)  # fmt: skip
"""In the order of the essay."""
