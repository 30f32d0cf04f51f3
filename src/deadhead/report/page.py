"""A report as one HTML page that needs nothing but itself: style, script and data are inside."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from html import escape
from typing import Any

from deadhead.pruning.record import GroupRecord, Point, PredictedPoint, Report, rows
from deadhead.report.charts import SCRIPT, axes_of, chart_data, plotly_script
from deadhead.report.facts import (
    again,
    costs,
    curve_summary,
    is_wide,
    loss_summary,
    losses,
    predicted_at,
    prediction_method,
    purpose_label,
    reasons,
    shown_curve,
    verdict,
)
from deadhead.report.style import STYLE
from deadhead.text import counted, listed

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""The browser loads nothing from anywhere, whatever a name in the report contains."""


def render_page(report: Report) -> str:
    """The whole page as text: headline, tables, interactive figures, what was not pruned, and how the result was made.

    Every text of the report is escaped. The page loads nothing, so that it opens without a network.

    >>> from deadhead.pruning.record import GroupRecord, Measures, Report
    >>> measures = Measures(2, 100, 400, 400, 600, 1e-3, 32, 0.1, 0.99)
    >>> group = GroupRecord("<u>", "channel", 2, [0], [0.0, 2.0], [])
    >>> report = Report("net", "units=0.5", "mrs", "constant", "cross_entropy", "test", 100, 400, measures, measures,
    ...                 None, 0.0, 1e-4, [group])
    >>> page = render_page(report)
    >>> page.startswith("<!doctype html>"), "<u>" in page.split("<script>")[0]
    (True, False)
    """
    sections = [
        _header(report),
        _measures(report),
        _promises(report),
        _curve(report),
        _figures(report),
        _groups(report.groups),
        _not_pruned(report),
        _notes(report.notes),
        _making(report),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(report.model)}: pruning report</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{"".join(sections)}
</main>
<script type="application/json" id="chart-data">{chart_data(report)}</script>
<script>{plotly_script()}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _header(report: Report) -> str:
    passed, _ = verdict(report)
    remaining = dict(costs(report.before, report.after))
    cards = [
        (f"{100 * remaining[name]:.3g} %", f"of the {name} remaining")
        for name in ("parameters", "multiply-adds")
        if name in remaining
    ]
    if remaining.get("latency"):
        cards.append((f"{1 / remaining['latency']:.3g}x", "as fast as before"))
    if report.before.accuracy is not None and report.after.accuracy is not None:
        cards.append((f"{100 * report.after.accuracy:.2f} %", f"accuracy, from {100 * report.before.accuracy:.2f} %"))
    else:
        cards.append((f"{report.after.loss:.4g}", f"loss, from {report.before.loss:.4g}"))
    cards.append(("Passed" if passed else "FAILED", "pruned equals gated"))
    tone = "good" if passed else "bad"
    shown = [
        f'<div class="card{f" {tone}" if index == len(cards) - 1 else ""}"><b>{escape(value)}</b>'
        f"<span>{escape(meaning)}</span></div>"
        for index, (value, meaning) in enumerate(cards)
    ]
    return f"""<header>
<p class="eyebrow">deadhead pruning report</p>
<h1>{escape(report.model)} <span>{escape(report.headline)}</span></h1>
<p class="soft">Budget {escape(report.budget)}; units chosen by {escape(report.criterion)}; compensation
{escape(report.compensation)}; loss {escape(report.loss_name)}. Measured on {report.rows:,}
{escape(report.evaluated_on)} {"sample" if report.rows == 1 else "samples"}, decided on
{counted(report.calibration_rows, "calibration sample")}.</p>
<div class="cards">{"".join(shown)}</div>
</header>
"""


def _measures(report: Report) -> str:
    remaining = dict(costs(report.before, report.after))
    body = [
        [escape(name), escape(before), escape(after), f"{100 * remaining[name]:.3g} %" if name in remaining else ""]
        for name, before, after in rows(report.before, report.after)
    ]
    timing = f"""<p class="soft">Latency is the median of one forward pass over
{counted(report.after.latency_rows, "sample")}.</p>"""
    return _section(
        "Before and after",
        f'<div class="two"><div>{_table(["", "before", "after", "remaining"], body)}{timing}</div>'
        '<div><div id="costs" class="chart"></div></div></div>',
    )


def _promises(report: Report) -> str:
    passed, sentence = verdict(report)
    values = losses(report)
    widest = max([value for _, value in values if 0 < value < float("inf")], default=1.0)
    bars = [[escape(name), _bar(value / widest, "kept"), f"{value:.4g}"] for name, value in values]
    loss = f'{_table(["", "", "loss"], bars)}<p class="soft">{escape(loss_summary(report))}</p>'
    return f"""<div class="two">
{_section("Predicted beside measured loss", loss)}
{_section("Verification", f'<p class="verdict {"good" if passed else "bad"}">{escape(sentence)}</p>')}
</div>
"""


def _curve(report: Report) -> str:
    points = shown_curve(report)
    if not points:
        return ""
    options = "".join(f'<option value="{place}">{name}</option>' for place, (name, _) in enumerate(axes_of(points)))
    checked = " checked" if is_wide(points, report.predicted_curve) else ""
    return _section(
        "Loss against size",
        f'<p class="soft">{escape(curve_summary(report))}</p><p class="soft">{escape(prediction_method(report))}</p>'
        f'<p class="controls"><label>Against <select id="measure" autocomplete="off">{options}</select></label>'
        f'<label><input type="checkbox" id="curve-log" autocomplete="off"{checked}> '
        "log scale</label></p>"
        "<noscript><p>The chart needs JavaScript; its numbers are in the table.</p></noscript>"
        '<div id="curve" class="chart"></div>'
        f"<details><summary>The numbers</summary>{_points(points, report.predicted_curve)}</details>",
    )


def _points(points: list[Point], predicted_curve: list[PredictedPoint]) -> str:
    axes = axes_of(points)
    accurate = any(point.accuracy is not None for point in points)
    body = []
    for place, point in enumerate(points):
        cells = [f'<span class="kind">{purpose_label(point, points[0])}</span>']
        for _, counts in axes:
            cells += [f"{counts[place]:,}", f"{100 * counts[place] / counts[0]:.3g} %"]
        cells.append(f"{point.loss:.4g}")
        if predicted_curve:
            predicted = predicted_at(predicted_curve, point.units)
            cells.append("-" if predicted is None else f"{predicted:.4g}")
        if accurate:
            cells.append("-" if point.accuracy is None else f"{100 * point.accuracy:.2f} %")
        body.append(cells)
    headings = ["", *(heading for name, _ in axes for heading in (name, "remaining")), "loss"]
    headings += ["predicted"] if predicted_curve else []
    return _table([*headings, "accuracy"] if accurate else headings, body)


def _figures(report: Report) -> str:
    groups = report.groups
    if not groups:
        return ""
    options = "".join(f'<option value="{place}">{escape(group.name)}</option>' for place, group in enumerate(groups))
    script = "<noscript><p>The figures need JavaScript; their numbers are in the tables.</p></noscript>"
    hint = "Click a bar to see the saliencies of its group below." if len(groups) > 1 else ""
    return _section(
        "Units kept and removed", f'<p class="soft">{hint}</p>{script}<div id="units" class="chart"></div>'
    ) + _section(
        "Saliency of each unit",
        f'<p class="controls"><label>Group <select id="group" autocomplete="off">{options}</select></label>'
        '<label><input type="checkbox" id="log" autocomplete="off"> log scale</label></p>'
        f'<p class="soft">Units in the order of removal: removed ones are squares on the left, kept ones circles on '
        f"the right, in the order in which they would follow. On a log scale, triangles at the bottom are units with "
        f"a saliency of 0 or less. {escape(again(report))}</p>"
        '<div id="saliency" class="chart"></div>',
    )


def _groups(groups: list[GroupRecord]) -> str:
    if not groups:
        return ""
    body = [
        [
            f'<span class="name">{escape(group.name)}</span>',
            f'<span class="kind">{escape(group.kind)}</span>',
            _bar(group.kept / group.units if group.units else 1.0, "both"),
            f"{group.kept:,}",
            f"{len(group.removed):,}",
            f"{group.units:,}",
            f'<span class="name">{escape(listed(group.consumers, 6))}</span>',
        ]
        for group in groups
    ]
    return _section(
        "Groups", _table(["group", "kind", "", "kept", "removed", "units", "read by"], body, words=(0, 1, 6))
    )


def _not_pruned(report: Report) -> str:
    if not report.left_alone:
        return _section("Not pruned", "<p>Nothing: every unit could have been pruned.</p>")
    body = [
        [f'<span class="name">{escape(listed(names, 12))}</span>', escape(reason)] for reason, names in reasons(report)
    ]
    return _section("Not pruned", _table(["what", "why"], body, words=(0, 1)))


def _notes(notes: list[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return _section("Notes", f"<ul>{items}</ul>") if notes else ""


def _making(report: Report) -> str:
    """How the result came about: seconds, settings, environment."""
    total = sum(report.seconds.values())
    seconds = [
        [escape(step), _bar(value / total if total else 0.0, "kept"), f"{value:.3g} s"]
        for step, value in report.seconds.items()
    ]
    seconds.append(["total", "", f"{total:.3g} s"])
    boxes = [_section("Seconds", _table(["step", "", "time"], seconds))]
    for title, values in (("Settings", report.settings), ("Environment", report.environment)):
        body = [[escape(name), _value(value)] for name, value in values.items()]
        if body:
            boxes.append(_section(title, _table(["", ""], body, words=(0, 1))))
    return f'<div class="three">{"".join(boxes)}</div>\n'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _table(headings: list[str], body: list[list[str]], words: Collection[int] = (0,)) -> str:
    """A table of cells that are HTML already; columns in `words` hold text, the others numbers."""
    kinds = ["" if column in words else ' class="number"' for column in range(len(headings))]
    head = "".join(f"<th{kind}>{escape(heading)}</th>" for kind, heading in zip(kinds, headings, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"
        for cells in body
    ]
    top = f"<thead><tr>{head}</tr></thead>" if any(headings) else ""
    return f'<div class="scroll"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'


def _bar(share: float, kind: str) -> str:
    """A bar of `share` of its track, which is empty ("kept") or holds what was removed ("both")."""
    percent = 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    return f'<div class="bar {kind}"><i style="width:{percent:.3g}%"></i></div>'


def _value(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, default=str))
