"""Pages: tables are those of the registries, links lead somewhere, the bibliography has what docstrings cite."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CITED = re.compile(r"\b([A-Z][\w\u00c0-\u024f]+(?: and [A-Z][\w\u00c0-\u024f]+| et al\.)?),? \(?((?:19|20)\d\d)\)")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_registries() -> None:
    made, text = script("reference"), (ROOT / "README.md").read_text()
    assert (ROOT / "docs/reference.md").read_text() == made.reference(), "run python benchmarks/reference.py"
    assert text == made.with_tables(text), "run python benchmarks/reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_bibliography_has_what_docstrings_cite() -> None:
    listed = (ROOT / "docs/bibliography.md").read_text()
    cited = set()
    for path in (ROOT / "src").rglob("*.py"):
        cited |= {f"{names} ({year})" for names, year in CITED.findall(path.read_text())}
    assert {"Evci (2018)", "Wolfe et al. (2016)", "Bach et al. (2015)"} <= cited
    missing = sorted(each for each in cited if f"- {each}." not in listed)
    assert not missing, f"docs/bibliography.md lacks {', '.join(missing)}"
