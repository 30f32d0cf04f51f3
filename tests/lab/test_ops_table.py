"""The table of ops is made from the catalogue and the registries, and the page that shows it is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from deadhead.graph.catalogue import CATALOGUE
from deadhead.graph.units.rules import RULES
from deadhead.lab.ops_table import MISSING, Row, markdown, rows, torch_version
from deadhead.relevance.program import LOWERINGS
from deadhead.scores.certificate.lipschitz import LIPSCHITZ
from deadhead.scores.second_order import recursion_rules

DOCS = Path(__file__).parents[2] / "docs" / "ops.md"
TABLE = {row.op: row for row in rows()}


@pytest.mark.parametrize("registry", [RULES, LOWERINGS, LIPSCHITZ, recursion_rules.RULES])
def test_every_op_with_a_rule_is_in_the_catalogue(registry: dict[str, object]) -> None:
    assert set(registry) - {"pointwise"} <= set(CATALOGUE)


def test_a_row_for_every_op() -> None:
    assert list(TABLE) == list(CATALOGUE)


@pytest.mark.parametrize(
    ("op", "lacks"),
    [
        ("addmm", []),
        ("conv2d", []),
        ("relu", []),
        ("view", []),
        ("lstm", []),
        ("_assert_scalar", []),
        ("arange", []),
        ("layer_norm", ["diagonal", "lipschitz"]),
        ("scaled_dot_product_attention", ["diagonal", "lipschitz", "matrix"]),
        ("addbmm", ["relevance", "diagonal", "lipschitz", "multiply_adds", "matrix"]),
        ("_convolution", ["relevance", "diagonal", "lipschitz", "rewriting"]),
        ("masked_scatter", ["labels", "diagonal", "lipschitz"]),
    ],
)
def test_what_an_op_lacks(op: str, lacks: list[str]) -> None:
    assert TABLE[op].lacks == lacks


def test_markdown_shows_what_is_missing() -> None:
    row = Row("new", "product", "rule", MISSING, "", "1", "counted", "yes", "")
    assert "| `new` | product | rule | **missing** |  | 1 | counted | yes |  |" in markdown([row])
    assert "relevance 1." in markdown([row])


def test_the_page_is_up_to_date() -> None:
    text = DOCS.read_text()
    if f"with torch {torch_version()};" not in text:
        pytest.skip("the page was made with another version of torch, which may tag other ops as elementwise")
    assert text == markdown(rows()), "run python benchmarks/ops.py"
