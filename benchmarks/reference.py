"""Write the tables of the registries: docs/reference.md, and the table of budgets in README.md."""

from __future__ import annotations

import re
from pathlib import Path

from deadhead.cli.listing import KINDS, markdown

ROOT = Path(__file__).parents[1]
TITLES = {
    "criteria": "Criteria: what units are ranked by",
    "compensations": "Compensations: how the remaining units take over",
    "budgets": "Budgets: what remains, or what may be lost",
    "methods": "Attribution methods",
    "experiments": "Experiments",
}


def reference() -> str:
    """The page of all registries."""
    parts = ["# Reference\n\nMade by `python benchmarks/reference.py`; `deadhead list` prints the same, with options."]
    return "\n\n".join([*parts, *(f"## {TITLES[kind]}\n\n{markdown(kind)}" for kind in KINDS)]) + "\n"


def with_tables(text: str) -> str:
    """A page with the tables between its marks, `<!-- budgets -->` and `<!-- end -->`."""
    for kind in KINDS:
        text = re.sub(
            rf"(<!-- {kind} -->\n).*?(<!-- end -->)", lambda m, kind=kind: f"{m[1]}{markdown(kind)}\n{m[2]}", text, flags=re.S
        )  # fmt: skip
    return text


if __name__ == "__main__":
    (ROOT / "docs/reference.md").write_text(reference())
    (ROOT / "README.md").write_text(with_tables((ROOT / "README.md").read_text()))
