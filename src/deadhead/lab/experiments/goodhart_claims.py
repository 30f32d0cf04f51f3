"""What "Visualizing Neural networks, how to blame the bias" found of relevance in the training loss."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Share

TAKEAWAY = ""
CLAIMS = (
    Claim(
        "B8.1",
        '"Visualizing Neural networks, how to blame the bias", What I was hoping for regarding alignment',
        "Relevance in the loss is gamed: it lies inside the region, and the network is not more robust for it.",
        '"rampantly"',
        Every(Share("relevance_inside", low=0.9), Difference("swapped_gain", below=0.05)),
        {"relevance_inside": 0.95, "swapped_gain": 0.0},
        {"relevance_inside": 0.5, "swapped_gain": 0.5},
        "MNIST on textures that go with the class, weight 1, blame the bias, the essay's own method: share of absolute "
        "relevance inside the digit on training images, and accuracy with textures swapped, less that of a twin "
        "without the relevance loss. The other methods stand beside.",
        picture="measures",
    ),
)
