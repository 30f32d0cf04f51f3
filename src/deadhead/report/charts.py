"""The interactive figures of the page: their data as JSON, and the script that draws them with Plotly."""

from __future__ import annotations

import html
import importlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from deadhead.drawing import shorten
from deadhead.pruning.record import GroupRecord, Point, PredictedPoint, Report
from deadhead.report.facts import (
    costs,
    in_order,
    predicted_at,
    purpose_label,
    quantity_of,
    shown_curve,
    spread_of,
)


def chart_data(report: Report) -> str:
    """The numbers behind the figures as JSON that may stand inside a `<script>` element.

    Labels are escaped, because Plotly takes tags in them for markup; saliencies and losses are rounded to five digits,
    and null where they are not finite.

    Example:
        >>> from deadhead.pruning.record import GroupRecord, Measures, Report
        >>> measures = Measures(2, 100, 400, 400, 600, 1e-3, 32, 0.1, 0.99)
        >>> group = GroupRecord("</script>", "channel", 2, [0], [0.0, 2.0], [])
        >>> report = Report("net", "units=0.5", "mrs", "constant", "cross_entropy", "test", 100, 400, measures,
        ...                 measures, None, 0.0, 1e-4, [group])
        >>> "<" in chart_data(report), json.loads(chart_data(report))["groups"][0]["label"]
        (False, '&lt;/script&gt;')
    """
    remaining = costs(report.before, report.after)
    data = {
        "criterion": _label(report.criterion),
        "quantity": quantity_of(report),
        "costs": {"names": [name for name, _ in remaining], "fractions": [part for _, part in remaining]},
        "groups": [_group(group) for group in report.groups],
        "curve": _curve(shown_curve(report), report.predicted_curve),
    }
    # Whatever a label holds, nothing in here may end the script element.
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _group(group: GroupRecord) -> dict[str, Any]:
    entries = in_order(group)
    return {
        "name": _label(group.name),
        "label": _label(shorten(group.name, 34)),
        "kept": group.kept,
        "removed": len(group.removed),
        "units": [entry.unit for entry in entries],
        "saliency": [_rounded(entry.saliency) for entry in entries],
        "wide": spread_of(group.saliency) is not None,
    }


def _curve(points: list[Point], predicted_curve: list[PredictedPoint]) -> dict[str, Any] | None:
    """What the chart of the curve shows: the points measured, each with its purpose and what was predicted there, and
    the predicted curve."""
    if not points:
        return None
    predicted = [predicted_at(predicted_curve, point.units) for point in points]
    accuracies = [None if point.accuracy is None else _rounded(point.accuracy) for point in points]
    axes = axes_of(points)
    along = dict(axes_of(predicted_curve)) if predicted_curve else {}
    return {
        "axes": [{"name": name, "counts": counts, "predicted": along.get(name, [])} for name, counts in axes],
        "purpose": [purpose_label(point, points[0]) for point in points],
        "loss": [_rounded(point.loss) for point in points],
        "predicted": [None if value is None else _rounded(value) for value in predicted],
        "predicted_curve": [_rounded(place.loss) for place in predicted_curve],
        "accuracy": None if all(value is None for value in accuracies) else accuracies,
    }


def axes_of(points: Sequence[Point | PredictedPoint]) -> list[tuple[str, list[int]]]:
    """What a curve can be drawn against: a name and a count for each point; costs that were 0 are left out."""
    pairs = [
        ("units", [point.units for point in points]),
        ("parameters", [point.parameters for point in points]),
        ("multiply-adds", [point.macs for point in points]),
    ]
    return [(name, counts) for name, counts in pairs if counts[0] > 0]


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _label(text: str) -> str:
    """`text` so that Plotly shows it as it is; quotation marks it would show as entities."""
    return html.escape(text, quote=False)


def plotly_script() -> str:
    """Plotly's own JavaScript, to be inlined.

    Its logo and its maps, none of which the page shows, carry links to their makers; these are made to lead nowhere,
    so that nothing on the page leads away from it.
    """
    source: str = importlib.import_module("plotly.offline").get_plotlyjs()
    return re.sub(r"""((?:href|src)=["'])(?=http)""", r"\1#", source)


SCRIPT = """
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  // The buttons are listed, because Plotly's own choice has one that offers to upload the chart.
  const config = {responsive: true, displaylogo: false, plotlyServerURL: "", typesetMath: false,
                  modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]]};
  const still = {...config, displayModeBar: false};
  const color = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const narrow = () => window.innerWidth < 640;
  const axis = extra => ({gridcolor: color("line"), zerolinecolor: color("line"), linecolor: color("line"),
                          automargin: true, ...extra});
  const layout = extra => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: color("ink"), size: 13, family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"},
    margin: {l: 8, r: 16, t: 34, b: 40}, bargap: 0.3,
    hoverlabel: {bgcolor: color("card"), bordercolor: color("line"), font: {color: color("ink")}, align: "left"},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: color("soft"), activecolor: color("ink")},
    legend: {orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", traceorder: "normal"}, ...extra});

  function drawCosts() {
    const {names, fractions} = data.costs;
    const trace = {type: "bar", orientation: "h", y: names, x: fractions, marker: {color: color("kept")},
                   text: fractions.map(f => (100 * f).toPrecision(3) + " %"), textposition: "auto",
                   insidetextfont: {color: color("card")}, hovertemplate: "%{y}: %{text} remaining<extra></extra>"};
    Plotly.react("costs", [trace], layout({
      height: 60 + 38 * names.length, margin: {l: 8, r: 16, t: 8, b: 34}, showlegend: false,
      shapes: [{type: "line", x0: 1, x1: 1, y0: 0, y1: 1, yref: "paper",
                line: {color: color("soft"), width: 1, dash: "dot"}}],
      xaxis: axis({tickformat: ".0%", fixedrange: true, range: [0, 1.05 * Math.max(1, ...fractions)], nticks: 6}),
      yaxis: axis({autorange: "reversed", ticksuffix: "  ", fixedrange: true})}), still);
  }

  function drawUnits() {
    const places = data.groups.map((_, place) => place);
    const bar = (key, name) => ({
      type: "bar", orientation: "h", name: name, y: places, x: data.groups.map(group => group[key]),
      customdata: data.groups.map(group => group.name), marker: {color: color(key)},
      hovertemplate: "%{customdata}<br>%{x:,} " + name + "<extra></extra>"});
    const clip = text => narrow() && text.length > 16 ? text.slice(0, 7) + "\\u2026" + text.slice(-8) : text;
    const labels = data.groups.map(group => group.label.includes("&") ? group.label : clip(group.label));
    Plotly.react("units", [bar("kept", "kept"), bar("removed", "removed")], layout({
      barmode: "stack", height: 110 + 22 * Math.max(places.length, 2),
      xaxis: axis({title: {text: "units"}, tickformat: ",d", fixedrange: true, rangemode: "tozero",
                   nticks: narrow() ? 4 : 9}),
      yaxis: axis({tickvals: places, ticktext: labels, range: [places.length - 0.4, -0.6], ticksuffix: "  ",
                   showgrid: false, zeroline: false, fixedrange: true})}), still);
  }

  const select = document.getElementById("group"), log = document.getElementById("log");
  function chooseScale() { log.checked = data.groups[select.value].wide; }
  function drawSaliency() {
    const group = data.groups[select.value], values = group.saliency;
    const finite = values.filter(value => value !== null), above = finite.filter(value => value > 0);
    const scaled = log.checked && above.length > 0, floor = scaled ? Math.min(...above) / 2 : 0;
    const drawn = value => value === null ? null : scaled ? Math.max(value, floor) : value;
    const trace = (key, name, first, last, symbol) => {
      const places = values.map((_, place) => place).slice(first, last);
      return {type: "scatter", mode: "markers", name: name, x: places.map(place => place + 1),
              y: places.map(place => drawn(values[place])),
              customdata: places.map(place => [group.units[place], values[place] === null ? "not finite"
                                                                   : values[place].toPrecision(4)]),
              marker: {color: color(key), size: values.length > 300 ? 4 : 8,
                       symbol: places.map(place => scaled && values[place] <= 0 ? "triangle-down" : symbol)},
              hovertemplate: "unit %{customdata[0]}, " + name + "<br>place %{x} in the order of removal<br>" +
                             data.quantity + " %{customdata[1]}<extra></extra>"};
    };
    const border = group.removed + 0.5, decades = scaled ? Math.log10(Math.max(...above) / floor) : 0;
    const shapes = group.removed === 0 ? [] : [
      {type: "rect", layer: "below", x0: 0.5, x1: border, y0: 0, y1: 1, yref: "paper", line: {width: 0},
       fillcolor: color("removed"), opacity: 0.14},
      {type: "line", x0: border, x1: border, y0: 0, y1: 1, yref: "paper", line: {color: color("removed"), width: 1}}];
    Plotly.react("saliency", [trace("removed", "removed", 0, group.removed, "square"),
                              trace("kept", "kept", group.removed, values.length, "circle")], layout({
      height: 400, shapes: shapes, hovermode: "closest",
      xaxis: axis({title: {text: "order of removal (1 is removed first)"}, range: [0.5, values.length + 0.5],
                   tickformat: ",d", nticks: Math.min(values.length + 1, narrow() ? 5 : 12), showgrid: false,
                   zeroline: false}),
      yaxis: axis({title: {text: data.quantity + " (" + data.criterion + ")", standoff: 6}, zeroline: false,
                   ...(scaled ? {type: "log", dtick: decades > 2 ? Math.ceil(decades / 6) : "D2",
                                 exponentformat: "power"}
                              : {type: "linear", nticks: 7, rangemode: "tozero", exponentformat: "power"})})}),
      config);
  }

  const measure = document.getElementById("measure"), curveLog = document.getElementById("curve-log");
  function drawCurve() {
    const {axes, purpose, loss, predicted, predicted_curve: ahead, accuracy} = data.curve;
    const {name, counts, predicted: along} = axes[measure.value];
    const result = purpose.indexOf("result");
    const percent = (of, place, whole) => 100 * of[place] / (whole || of)[0];
    const share = counts.map((_, place) => percent(counts, place));
    const places = along.map((_, place) => percent(along, place, counts));
    const lowest = Math.min(...share, ...places), highest = Math.max(...share), margin = 0.04 * (highest - lowest || 1);
    const seen = [...loss, ...ahead].filter(value => value > 0);
    const decades = Math.log10(Math.max(...seen) / Math.min(...seen));
    const grouped = count => count.toLocaleString("en");
    const number = value => value === null ? "not finite" : value.toPrecision(4);
    const sizes = (of, place) => axes.map(each =>
      grouped(each[of][place]) + " " + each.name + " (" + percent(each[of], place, each.counts).toPrecision(3) + " %)");
    const about = loss.map((value, place) => [
      purpose[place] === "refused" ? "tried and refused" : purpose[place] || "measured", ...sizes("counts", place),
      "loss " + number(value), ...(predicted[place] === null ? [] : ["predicted " + number(predicted[place])]),
      ...(accuracy && accuracy[place] !== null ? ["accuracy " + (100 * accuracy[place]).toFixed(2) + " %"] : []),
    ].join("<br>"));
    const every = loss.map((_, place) => place), refused = every.filter(place => purpose[place] === "refused");
    const accepted = every.filter(place => !["refused", "for comparison"].includes(purpose[place]));
    const joint = accepted.slice(-1);
    const lines = (values, yaxis) => {
      const trace = (title, places, extra) => ({
        type: "scatter", mode: "lines+markers", name: title, legendgroup: title, showlegend: yaxis === "y",
        x: places.map(place => share[place]), y: places.map(place => values[place]),
        customdata: places.map(place => about[place]), yaxis: yaxis,
        hovertemplate: "%{customdata}<extra></extra>", ...extra});
      const traces = [];
      traces.push({type: "scatter", mode: "lines", name: "intact", legendgroup: "intact", showlegend: yaxis === "y",
                  x: [highest + margin, lowest - margin], y: [values[0], values[0]], yaxis: yaxis, hoverinfo: "skip",
                  line: {color: color("soft"), width: 1, dash: "dot"}});
      if (yaxis === "y" && ahead.length)
        traces.push({type: "scatter", mode: "lines", name: "predicted", x: places, y: ahead,
                    customdata: ahead.map((value, place) =>
                      ["predicted", ...sizes("predicted", place), "loss " + number(value)].join("<br>")),
                    hovertemplate: "%{customdata}<extra></extra>",
                    line: {color: color("predicted"), width: 2, dash: "dash"}});
      if (refused.length)
        traces.push(trace("tried and refused", [...joint, ...refused], {
          opacity: 0.6, legendrank: 1001, line: {color: color("soft"), width: 1.5, dash: "dash"},
          marker: {color: color("soft"), size: [...joint.map(() => 0), ...refused.map(() => 6)]}}));
      traces.push(trace("measured", every.filter(place => !refused.includes(place)), {
        line: {color: color("kept"), width: 2}, marker: {color: color("kept"), size: 7}}));
      if (result >= 0)
        traces.push(trace("result: " + share[result].toPrecision(3) + " % of the " + name, [result],
          {mode: "markers", marker: {symbol: "circle-open", color: color("removed"), size: 15, line: {width: 2.5}}}));
      return traces;
    };
    const rates = accuracy && accuracy.map(value => value === null ? null : 100 * value);
    const mark = result < 0 ? [] : [{type: "line", x0: share[result], x1: share[result], y0: 0, y1: 1,
      yref: "paper", opacity: 0.7, line: {color: color("removed"), width: 1}}];
    Plotly.react("curve", [...lines(loss, "y"), ...(rates ? lines(rates, "y2") : [])], layout({
      height: rates ? 500 : 360, shapes: mark, hovermode: "closest",
      xaxis: axis({title: {text: "remaining " + name + (narrow() ? "" : " (100 % is " + grouped(counts[0]) + ")")},
                   ticksuffix: " %", range: [highest + margin, lowest - margin], zeroline: false,
                   nticks: narrow() ? 5 : 11, anchor: rates ? "y2" : "y"}),
      yaxis: axis({title: {text: "loss", standoff: 6}, domain: [rates ? 0.44 : 0, 1], zeroline: false,
                   // Plotly's own choice of ticks names every digit between two powers, one on top of the other.
                   ...(curveLog.checked ? {type: "log", dtick: decades > 2 ? 1 : "D2", tickformat: ".3~g"}
                                        : {type: "linear", nticks: 7, exponentformat: "power"})}),
      ...(rates ? {yaxis2: axis({title: {text: "accuracy", standoff: 6}, ticksuffix: " %", domain: [0, 0.36],
                                 nticks: 6, zeroline: false})} : {})}), config);
  }

  function draw() {
    if (data.curve) drawCurve();
    if (data.costs.names.length) drawCosts();
    if (data.groups.length) { drawUnits(); drawSaliency(); }
  }
  if (data.groups.length) chooseScale();
  draw();
  if (data.curve) {
    measure.addEventListener("change", drawCurve);
    curveLog.addEventListener("change", drawCurve);
  }
  if (data.groups.length) {
    select.addEventListener("change", () => { chooseScale(); drawSaliency(); });
    log.addEventListener("change", drawSaliency);
    document.getElementById("units").on("plotly_click", event => {
      select.value = event.points[0].pointIndex;
      chooseScale();
      drawSaliency();
    });
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
"""
"""Draws the figures, and draws them again when the reader switches between light and dark."""
