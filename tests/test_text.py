"""Counts, lists that are cut short, and tables that keep to a width."""

from __future__ import annotations

import pytest

from deadhead.text import counted, listed, table


def test_a_noun_has_the_number_of_its_count() -> None:
    assert [counted(n, "unit") for n in (0, 1, 2, 12345)] == ["0 units", "1 unit", "2 units", "12,345 units"]
    assert [counted(n, "pass", "passes") for n in (1, 2)] == ["1 pass", "2 passes"]


def test_long_lists_say_how_many_more_there_are() -> None:
    names = [f"n{number}" for number in range(2000)]
    assert listed(names[:3], 3) == "n0, n1, n2"
    assert listed(names[:4], 3) == "n0, n1, n2, n3"
    assert listed(names[:5], 3) == "n0, n1, n2 and 2 more"
    assert listed(names, 1) == "n0 and 1,999 more"
    assert listed([], 3) == ""


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_is_no_wider_than_asked_loses_no_text_and_is_aligned(width: int) -> None:
    rows = [["encoder.layers.11.mlp.dense" * 2, "3,072", "words " * 10], ["a", "8", "b"]]
    text = table(["group", "units", "read by"], rows, width, right=[1])
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(text.split()).count("words") == 10
    column = lines[0].index("units") + len("units")
    assert all(line[:column].rstrip()[-1:].isdigit() for line in lines if "3,072" in line or line.startswith("a "))
    assert lines[-1].split() == ["a", "8", "b"]
    assert lines[-1].index("b") == lines[0].index("read by")
