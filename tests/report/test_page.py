from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from deadhead.pruning.record import Point, PredictedPoint, Report
from deadhead.report.page import render_page


class Reader(HTMLParser):
    """What a browser sees: elements, and the text outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.texts.append(data)
        elif self.inside[-1] == "script":
            self.scripts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def data(reader: Reader) -> dict[str, object]:
    found: dict[str, object] = json.loads(next(text for text in reader.scripts if text.startswith('{"criterion"')))
    return found


def test_page_says_headline_table_prediction_reasons_notes_and_settings(report_of: Callable[..., Report]) -> None:
    report = report_of()
    text = read(render_page(report)).text
    assert f"net {report.headline}" in text
    assert "parameters 20,522 8,000 39 %" in text
    assert "0.0277 predicted, 0.0291 measured on 360 test samples, from 0.0184 intact" in text
    assert "fc2, head an output of the model" in text
    assert "odd unknown op" in text
    assert "230 rows were held out" in text
    assert "trace 0.5 s" in text
    assert "total 2 s" in text
    assert 'exclude ["fc2"]' in text
    assert "torch 2.13.0" in text


@pytest.mark.parametrize(
    ("difference", "word"), [(2.5e-7, "Passed"), (1e-4, "Passed"), (0.03, "FAILED"), (float("nan"), "FAILED")]
)
def test_verification_is_told_in_words(report_of: Callable[..., Report], difference: float, word: str) -> None:
    text = read(render_page(report_of(difference=difference))).text
    other = {"Passed": "FAILED", "FAILED": "Passed"}[word]
    assert f"{word}: the pruned network and its gated original differ by at most {difference:.2g}" in text
    assert other not in text


def test_page_loads_nothing_from_elsewhere(report_of: Callable[..., Report], hostile: Report) -> None:
    page = render_page(report_of())
    assert not re.search(r'(src|href)\s*=\s*["\']?http', page)
    for reader in (read(page), read(render_page(hostile))):
        loading = [
            name for _, attributes in reader.elements for name in attributes if name in ("src", "href", "action")
        ]
        assert loading == []
        assert not {tag for tag, _ in reader.elements} & {"link", "img", "iframe", "a", "object", "embed", "base"}
        policy = next(attributes for tag, attributes in reader.elements if "http-equiv" in attributes)
        assert str(policy["content"]).startswith("default-src 'none'")


def test_no_name_becomes_markup(report_of: Callable[..., Report], hostile: Report) -> None:
    plain, tried = read(render_page(report_of(1))), read(render_page(hostile))
    kinds = {tag for tag, _ in plain.elements}
    assert {tag for tag, _ in tried.elements} <= kinds
    assert sum(tag == "script" for tag, _ in tried.elements) == 3
    assert all(not name.startswith("on") for _, attributes in tried.elements for name in attributes)
    # The text itself is still there to be read: model, group, reader, kind and the rest.
    assert tried.text.count("</script><script>document.title='x'</script>") >= 12


def test_chart_data_survives_hostile_names_and_values(hostile: Report) -> None:
    reader = read(render_page(hostile))
    group = data(reader)["groups"][0]  # type: ignore[index]
    assert group["units"] == [0, 2, 1]
    assert group["saliency"] == [None, -1.0, None]
    assert group["removed"] == 1
    # Plotly reads tags in labels as markup, so they reach it escaped.
    assert "<" not in group["name"]
    assert "&lt;/script&gt;" in group["name"]


def test_chart_data_holds_saliencies_in_the_order_of_removal(report_of: Callable[..., Report]) -> None:
    found = data(read(render_page(report_of(60))))
    groups = found["groups"]
    assert len(groups) == 60  # type: ignore[arg-type]
    first = groups[0]  # type: ignore[index]
    assert first["units"] == [2, 1, 5, 6, 3, 7, 0, 4]
    assert (first["kept"], first["removed"]) == (5, 3)
    assert found["costs"]["fractions"][0] == 0.625  # type: ignore[index]


def test_every_group_has_a_row_and_an_option(report_of: Callable[..., Report]) -> None:
    reader = read(render_page(report_of(60)))
    assert [attributes["value"] for tag, attributes in reader.elements if tag == "option"] == list(map(str, range(60)))
    assert "conv59 channel 5 3 8 conv60" in reader.text


def test_page_without_groups_or_prediction_still_stands(report_of: Callable[..., Report]) -> None:
    text = read(render_page(report_of(groups=[], predicted_loss=None, left_alone=[], seconds={}))).text
    assert "No loss was predicted; 0.0291 measured" in text
    assert "Nothing: every unit could have been pruned." in text
    assert "Saliency of each unit" not in text


def identities(reader: Reader) -> set[str | None]:
    return {attributes["id"] for _, attributes in reader.elements if "id" in attributes}


def options_of(page: str, identity: str) -> list[str]:
    found = re.search(rf'<select id="{identity}".*?</select>', page)
    return [] if found is None else re.findall(r"<option[^>]*>([^<]*)", found[0])


def test_curve_data_has_every_point_and_where_the_result_is(
    report_of: Callable[..., Report], curve: list[Point]
) -> None:
    page = render_page(report_of(curve=curve))
    assert data(read(page))["curve"] == {
        "axes": [
            {"name": "units", "counts": [16, 13, 10, 9, 8], "predicted": []},
            {"name": "parameters", "counts": [20_000, 14_000, 8_000, 7_000, 6_000], "predicted": []},
            {"name": "multiply-adds", "counts": [1_000_000, 700_000, 400_000, 340_000, 300_000], "predicted": []},
        ],
        "purpose": ["intact", "", "result", "refused", "refused"],
        "loss": [0.02, 0.021, 0.03, 0.25, None],
        "predicted": [None] * 5,
        "predicted_curve": [],
        "accuracy": [0.995, 0.99, 0.98, None, 0.5],
    }
    assert options_of(page, "measure") == ["units", "parameters", "multiply-adds"]


def test_curve_data_has_the_predicted_curve_for_every_axis(
    report_of: Callable[..., Report], beside: list[Point], predicted_curve: list[PredictedPoint]
) -> None:
    odd = [*predicted_curve[:3], replace(predicted_curve[3], loss=float("inf"))]
    page = render_page(report_of(curve=beside, predicted_curve=odd))
    found = data(read(page))["curve"]
    assert [axis["predicted"] for axis in found["axes"]] == [  # type: ignore[index]
        [16, 10, 6, 2], [20_000, 8_000, 5_000, 1_000], [1_000_000, 400_000, 250_000, 50_000],
    ]  # fmt: skip
    assert found["predicted_curve"] == [0.02, 0.026, 0.05, None]  # type: ignore[index]
    assert found["purpose"] == ["intact", "for comparison", "result", "for comparison"]  # type: ignore[index]
    assert found["predicted"] == [0.02, 0.023, 0.026, 0.044]  # type: ignore[index]
    text = read(page).text
    assert "loss predicted accuracy intact 16" in text
    assert "result 10 62.5 % 8,000 40 % 400,000 40 % 0.03 0.026 98.00 %" in text
    assert "for comparison 7 43.8 % 6,000 30 % 300,000 30 % 0.08 0.044 93.00 %" in text
    assert "Predicted by mrs: the intact loss plus" in text


def test_points_of_the_curve_are_in_a_table(report_of: Callable[..., Report], curve: list[Point]) -> None:
    text = read(render_page(report_of(curve=curve))).text
    assert "intact 16 100 % 20,000 100 % 1,000,000 100 % 0.02 99.50 % 13 81.2 %" in text
    assert "result 10 62.5 % 8,000 40 % 400,000 40 % 0.03 98.00 %" in text
    assert "refused 9 56.2 % 7,000 35 % 340,000 34 % 0.25 -" in text
    assert "refused 8 50 % 6,000 30 % 300,000 30 % inf 50.00 %" in text


def test_curve_without_sizes_accuracy_or_result_has_none_of_them(
    report_of: Callable[..., Report], curve: list[Point]
) -> None:
    points = [replace(point, parameters=0, macs=0, accuracy=None) for point in curve if point.units != 10]
    page = render_page(report_of(curve=points))
    found = data(read(page))["curve"]
    assert [axis["name"] for axis in found["axes"]] == options_of(page, "measure") == ["units"]  # type: ignore[index]
    assert found["accuracy"] is None  # type: ignore[index]
    assert found["purpose"] == ["intact", "", "refused", "refused"]  # type: ignore[index]
    table = page[page.index("<details>") : page.index("</details>")]
    assert re.findall(r"<th\b[^>]*>([^<]*)", table) == ["", "units", "remaining", "loss"]
    assert "result" not in table


def test_page_shows_no_curve_of_two_points(report_of: Callable[..., Report], curve: list[Point]) -> None:
    with_curve, without = read(render_page(report_of(curve=curve[:3]))), read(render_page(report_of(curve=curve[:2])))
    assert identities(with_curve) - identities(without) == {"curve", "curve-log", "measure"}
    assert data(without)["curve"] is None
    assert "Loss against size" not in without.text


def test_log_scale_is_chosen_where_losses_differ_much(report_of: Callable[..., Report], curve: list[Point]) -> None:
    def is_checked(points: list[Point]) -> bool:
        reader = read(render_page(report_of(curve=points)))
        return next("checked" in each for _, each in reader.elements if each.get("id") == "curve-log")

    assert not is_checked(curve)
    assert is_checked([*curve[:4], replace(curve[4], loss=20.0)])


def test_every_element_that_the_script_asks_for_is_on_the_page(
    report_of: Callable[..., Report], curve: list[Point]
) -> None:
    reader = read(render_page(report_of(curve=curve)))
    asked = set(re.findall(r'getElementById\("([^"]+)"\)|Plotly\.react\("([^"]+)"', reader.scripts[-1]))
    assert len(asked) >= 8
    assert {first or second for first, second in asked} <= identities(reader)
