"""The experiment `layers`: graphs as plain results, and pictures of them."""

from __future__ import annotations

from deadhead.lab.experiments.layers.experiment import plain_graph
from deadhead.lab.experiments.layers.figures import as_graph
from support.lab import drawn_all, quick


def test_half_of_the_units_leaves_the_edges_between_remaining_ones() -> None:
    spiral = quick("layers")["spiral"]
    assert spiral["removed_units"] == 0.5
    assert spiral["edges_left"] == (2 * 3 + 3 * 3 + 3 * 2) / (2 * 6 + 6 * 6 + 6 * 2)


def test_the_lowest_saliencies_of_each_layer_are_removed() -> None:
    found = quick("layers")["cnn"]
    by_layer: dict[str, list[tuple[float, bool]]] = {}
    for name, _, _, kind, score, removed in found["nodes"]:
        if kind not in ("input", "fixed"):
            by_layer.setdefault(name, []).append((score, removed))
    assert len(by_layer) == 4
    for units in by_layer.values():
        assert max(score for score, removed in units if removed) <= min(
            score for score, removed in units if not removed
        )


def test_a_graph_comes_back_from_its_lists() -> None:
    plain = quick("layers")["spiral"]
    again = plain_graph(as_graph(plain))
    assert again == {name: plain[name] for name in again}


def test_every_figure_is_drawn() -> None:
    drawn_all("layers")
