"""What "Visualizing Neural networks, how to blame the bias" found of relevance in the training loss."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Share

TAKEAWAY = (
    "Relevance in the training loss can help and proves nothing. Where the network could do without the shortcut, "
    "accuracy with textures swapped rose from {accuracy_swapped.none:mean%} to {accuracy_swapped.blame_bias:mean%} "
    "(blame the bias); where textures were as bright as digits, relevance moved inside all the same and the accuracy "
    "went from {bright.accuracy_swapped.none:mean%} to {bright.accuracy_swapped.blame_bias:mean%}. Judge by data whose "
    "background was swapped, never by relevance; and leave LRP without biases out of a loss: its network classifies "
    "{accuracy.lrp:mean%} of unseen images, where the twin without it has {accuracy.none:mean%}."
)
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
        why="Relevance inside the digit rises from {inside_twin.blame_bias} (twin) to {relevance_inside}, and what "
        "decides changes with it: of images with swapped textures, {texture_decides.none:mean%} get the texture's "
        "class without the relevance loss and {texture_decides.blame_bias:mean%} with it. Neither weight nor method is "
        "the reason: ten times the weight brings relevance inside to {weight 10.relevance_inside} and gains "
        "{weight 10.swapped_gain} of accuracy with textures swapped (on the class's own texture accuracy falls from "
        "{weight 10.accuracy.none:mean} to {weight 10.accuracy.blame_bias:mean}), and the derivative in the place of "
        "blame the bias gains {gains.gradient}. What matters is how strong the shortcut is. With textures as bright as "
        "the digit the measure is gamed: relevance inside rises from {bright.inside_twin.blame_bias} to "
        "{bright.relevance_inside}, and the largest relevance lies in the digit for "
        "{bright.pointing_swapped.blame_bias:mean%} of images with swapped textures, while the texture decides "
        "{bright.texture_decides.blame_bias:mean%} of them. Ten times the weight makes that network worse at both: "
        "accuracy {bright, weight 10.accuracy.blame_bias} and, swapped, "
        "{bright, weight 10.accuracy_swapped.blame_bias}.",
        variants=("weight 10", "bright", "bright, weight 10"),
    ),
)
