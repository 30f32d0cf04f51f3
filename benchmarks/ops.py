"""The table of ops and what can be done with each, printed and written to docs/ops.md.

python benchmarks/ops.py
"""

from __future__ import annotations

from pathlib import Path

from deadhead.lab.ops_table import markdown, rows


def main() -> None:
    text = markdown(rows())
    print(text, end="")
    (Path(__file__).parents[1] / "docs" / "ops.md").write_text(text)


if __name__ == "__main__":
    main()
