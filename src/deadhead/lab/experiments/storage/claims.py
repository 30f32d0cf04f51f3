"""What "Pruning in Neural Networks: Purpose and Concept" claims of zeroing and removing, and how it is judged."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Exact

TAKEAWAY = (
    "Zeros alone save nothing: a forward pass with 90 % of them changes by {zeroed_time_less_dense:mean%}. Compressed "
    "sparse rows change memory by {sparse_bytes_less_zeroed:mean%} and time by {sparse_time_less_zeroed:mean%}; "
    "cutting units to {multiply_adds_left:mean%} of the multiply-adds changes memory by "
    "{cut_bytes_less_zeroed:mean%}, time by {cut_time_less_zeroed:mean%} and the time of training by "
    "{epoch_time_less_dense:mean%}."
)
WHY_SPARSE = (
    "What fails is the time of sparse rows. At 90 % zeros they change memory by {sparse_bytes_less_zeroed:mean%} and "
    "the time of a pass by {sparse_time_less_zeroed:%}: torch has no sparse convolution, so that kernels are made "
    "dense again in every call, and at these sizes its sparse product costs more than a dense one, with "
    "{sparse_time_less_dense_at_0.5:mean%} at half of the weights zero. Removed units, which leave dense and smaller "
    "tensors, change memory by {cut_bytes_less_zeroed:mean%} and time by {cut_time_less_zeroed:%}."
)
ESSAY = '"Pruning in Neural Networks: Purpose and Concept", '

CLAIMS = (
    Claim(
        "F1.1", ESSAY + "pruning weights",
        "Zeroed and removed weights compute the same; only removal saves memory and time.", "none",
        Every(
            Exact("output_difference", 1e-6, "difference_to_intact"),
            Difference("zeroed_time_less_dense", above=-0.05, below=0.05),
            Difference("sparse_bytes_less_zeroed", below=0), Difference("sparse_time_less_zeroed", below=0),
            Difference("cut_bytes_less_zeroed", below=0), Difference("cut_time_less_zeroed", below=0),
        ),
        {"output_difference": [1e-8, 1e-8], "difference_to_intact": 0.1, "zeroed_time_less_dense": 0.0,
         "sparse_bytes_less_zeroed": -0.6, "sparse_time_less_zeroed": -0.5, "cut_bytes_less_zeroed": -0.8,
         "cut_time_less_zeroed": -0.5},
        {"output_difference": [0.1, 0.1], "zeroed_time_less_dense": -0.5, "sparse_bytes_less_zeroed": 0.1,
         "sparse_time_less_zeroed": 0.5, "cut_bytes_less_zeroed": 0.1, "cut_time_less_zeroed": 0.5},
        "At 90 % zeros, and of units 4-7-26 of 8-16-64; ratios less 1, batches of 64. Removed weights are compressed "
        "sparse rows, removed units a smaller network. Differences of outputs are relative to the largest output; the "
        "intact network's must be larger.",
        "forms", WHY_SPARSE,
    ),
    Claim(
        "F1.2", "Evci (2018), section 2.2", "A sparse form is no faster up to 90 % of zeros.", "90 %",
        Every(*(Difference(f"sparse_time_less_dense_at_{share}", above=0) for share in ("0.5", "0.8", "0.9"))),
        {f"sparse_time_less_dense_at_{share}": 0.5 for share in ("0.5", "0.8", "0.9")},
        {f"sparse_time_less_dense_at_{share}": -0.5 for share in ("0.5", "0.8", "0.9")},
        "Seconds of a forward pass over those of the dense network, less 1, batches of 64.",
        "forms",
    ),
    Claim(
        "F1.3", ESSAY + "benefits", "Pruned networks train faster.", "none",
        Difference("epoch_time_less_dense", below=0),
        {"epoch_time_less_dense": -0.4}, {"epoch_time_less_dense": 0.2},
        "Units 4-7-26 of 8-16-64, cut; seconds of an epoch over those of the dense network, less 1, batches of 32.",
        "training",
    ),
)  # fmt: skip
"""In the order of the rows."""
