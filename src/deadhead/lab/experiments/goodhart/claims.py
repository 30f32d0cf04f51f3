"""What "Visualizing Neural networks, how to blame the bias" found of relevance in the training loss."""

from __future__ import annotations

from deadhead.lab.experiment import Claim
from deadhead.lab.judges import Difference, Every, Share

TAKEAWAY = (
    "Relevance in the training loss helps and proves nothing. It raised accuracy under swapped textures from "
    "{accuracy_swapped.none:mean%} to {accuracy_swapped.blame_bias:mean%} (blame the bias); but where textures were as "
    "bright as the digits its largest relevance lay in the digit for {bright.pointing_swapped.blame_bias:mean%} of the "
    "images while the texture decided {bright.texture_decides.blame_bias:mean%} of them. Judge by data whose "
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
        why="Relevance inside the digit rises from {inside_twin.blame_bias} (twin) to {relevance_inside}, short of "
        "0.9, and what decides changes with it: of images with swapped textures, {texture_decides.none:mean%} get the "
        "texture's class without the relevance loss and {texture_decides.blame_bias:mean%} with it. Gradients in the "
        "place of blame the bias gain {gains.gradient}, the difference to the average image (baseline) gains "
        "{gains.baseline}. Ten times the weight brings relevance inside to {weight 10.relevance_inside}, and there the "
        "essay's outcome is found in part: the gain is {weight 10.swapped_gain}, because training suffers (accuracy on "
        "the class's own texture is {weight 10.accuracy.blame_bias}, that of the twin {weight 10.accuracy.none:mean}). "
        "Textures as bright as the digit make a stronger shortcut: accuracy with textures swapped is "
        "{bright.accuracy_swapped.none} without and {bright.accuracy_swapped.blame_bias} with the relevance loss, and "
        "relevance misleads: the largest lies in the digit for {bright.pointing_swapped.blame_bias:mean%} of the "
        "images with swapped textures, while the texture decides {bright.texture_decides.blame_bias:mean%} of them.",
        variants=("weight 10", "bright", "bright, weight 10"),
    ),
)
