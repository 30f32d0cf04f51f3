"""The style sheet of the page: light and dark by the reader's preference, no fonts from elsewhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #22303a; --soft: #5f6d76; --line: #e4e2da; --track: #eceae3;
  --kept: #2b7a78; --removed: #e07a3f; --predicted: #7a5ea8; --good: #1c7444; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12171b; --card: #1a2126; --ink: #e4e9ec; --soft: #9aa8b1; --line: #2d373e; --track: #29333a;
    --kept: #4fb3ae; --removed: #f0945c; --predicted: #b79be0; --good: #62c98f; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header { margin-bottom: 1.5rem; }
h1 { font-size: clamp(1.5rem, 3.4vw, 2.15rem); line-height: 1.2; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h1 span { font-weight: 400; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
.eyebrow { margin: 0 0 .4rem; color: var(--kept); font-weight: 600; font-size: .85rem; letter-spacing: .02em; }
.soft { color: var(--soft); font-size: .92rem; margin: .5rem 0; overflow-wrap: anywhere; }
.soft:empty { display: none; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem 1.4rem;
  margin: 0 0 1.1rem; min-width: 0;
}
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: .8rem; margin-top: 1.25rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .85rem 1rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.25; font-weight: 650; }
.card span { color: var(--soft); font-size: .88rem; }
.good b, .verdict.good { color: var(--good); }
.bad b, .verdict.bad { color: var(--bad); }
.verdict { font-size: 1.05rem; font-weight: 550; margin: 0; }
.two, .three { display: grid; gap: 1.1rem; grid-template-columns: repeat(2, minmax(0, 1fr)); }
.three { grid-template-columns: repeat(3, minmax(0, 1fr)); align-items: start; }
.two > section, .three > section { margin-bottom: 0; }
.two:not(section *), .three { margin-bottom: 1.1rem; }
@media (max-width: 860px) { .two, .three { grid-template-columns: minmax(0, 1fr); } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .85rem; white-space: nowrap; }
th, td { padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
td { overflow-wrap: anywhere; }
.three td:first-child { overflow-wrap: normal; white-space: nowrap; }
.three th, .three td { padding-right: .4rem; }
.three .number { white-space: nowrap; }
.three .bar { min-width: 1.5rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { display: inline-block; min-width: 9rem; overflow-wrap: anywhere; }
.kind { white-space: nowrap; }
.bar { height: .6rem; min-width: 3rem; margin-top: .45rem; border-radius: 3px; overflow: hidden; }
.bar.kept { background: var(--track); }
.bar.both { background: var(--removed); }
.bar i { display: block; height: 100%; background: var(--kept); }
.controls { display: flex; flex-wrap: wrap; gap: .6rem 1.4rem; margin: 0 0 .5rem; font-size: .93rem; }
.controls label { display: flex; align-items: center; gap: .5rem; min-width: 0; max-width: 100%; }
select {
  font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  padding: .3rem .5rem; min-width: 0; max-width: 100%;
}
.chart { min-width: 0; overflow: hidden; }
details { margin-top: .6rem; }
summary { cursor: pointer; color: var(--soft); font-size: .92rem; }
details table { margin-top: .6rem; }
ul { margin: 0; padding-left: 1.1rem; overflow-wrap: anywhere; }
@media print { body { background: none; } section, .card { break-inside: avoid; } .controls { display: none; } }
"""
