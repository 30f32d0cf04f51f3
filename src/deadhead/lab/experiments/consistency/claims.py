"""What "Visualizing Neural networks, how to blame the bias" claims of consistency, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Every, Exact

WHERE = '"Visualizing Neural networks, how to blame the bias", Consistency rules'
CLAIMS = (
    Claim(
        "B3.1",
        WHERE,
        "The gradient rule for matrices pairs with gradient, slope and repeat (scaled by alpha), the normalised one "
        "with ignore (scaled by 1), and no other pair agrees.",
        "table",
        Every(
            Exact("table_mismatches", 0, "swapped_table_mismatches"),
            Exact("scale_error", 1e-12, "swapped_table_mismatches"),
        ),
        {"table_mismatches": 0, "swapped_table_mismatches": 8, "scale_error": 0.0},
        {"table_mismatches": 1, "scale_error": 0.5},
        "The control is the table with its two rows swapped.",
    ),
    Claim(
        "B3.2",
        WHERE,
        "Maximum with constants: gradient matches gradient, and radial matches slope for a maximum of two (a guess).",
        "guess",
        Every(
            Exact("gradient_mismatches", 0, "gradient_pass_mismatches"),
            Exact("radial_mismatches", 0, "gradient_pass_mismatches"),
        ),
        {"gradient_mismatches": 0, "gradient_pass_mismatches": 2, "radial_mismatches": 0},
        {"gradient_mismatches": 1, "radial_mismatches": 2},
        why="The guess needs c = 0. Of the {constants_tried:mean} constants tried, radial and slope disagree at "
        "{radial_mismatches:mean}, those below zero: where a is negative, too, the radial rule gives the constant a "
        "share of the relevance, and a nonlinearity gives all to a. With c = 0 alone they disagree at "
        "{constants at zero.radial_mismatches:mean}.",
        variants=("constants at zero",),
    ),
)
TAKEAWAY = (
    "The same op written in two ways need not get the same relevance: of {pairs:mean} pairs of a rule for linear "
    "layers and a rule for nonlinearities only {pairs_that_agree:mean} agree. Combine gradient with gradient, "
    "rescale or deconvnet, or LRP-0 with pass, lest relevance depend on how a network is written; for maxima only "
    "the gradient is consistent with every constant."
)
