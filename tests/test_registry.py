"""Registries: options from signatures, errors that list what there is, entries of other packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deadhead.errors import DataError
from deadhead.registry import Entry, Registry

GARDEN = '''
import torch
from deadhead.scores import criterion

@criterion("first_come")
def first_come(question, *, step=1.0):
    """The number of the unit, times `step`.

    More about it."""
    return {group.name: step * torch.arange(group.size).double() for group in question.groups}
'''


def registry() -> Registry[Entry]:
    found: Registry[Entry] = Registry("colour", "colours", DataError)

    def red(paper: str, *, shade: float = 1.0, gloss: bool = False) -> str:
        """Paint it red,
        all of it.

        Not for walls."""
        return f"{paper} {shade} {gloss}"

    found.add(Entry("red", red))
    return found


def test_options_are_the_keyword_only_arguments_and_the_summary_is_the_first_paragraph() -> None:
    entry = registry()["red"]
    assert entry.options == {"shade": 1.0, "gloss": False}
    assert entry.summary == "Paint it red, all of it."


def test_what_is_not_there_is_an_error_that_lists_what_is() -> None:
    colours = registry()
    with pytest.raises(DataError, match=r"no colour 'rad'; did you mean 'red'\? The colours are red"):
        colours["rad"]
    with pytest.raises(DataError, match="no colour 'blue'; the colours are red"):
        colours["blue"]
    with pytest.raises(DataError, match="colour red has no option 'shades'; its options are shade, gloss"):
        colours.check_options("red", {"shades": 2})
    colours.check_options("red", {"shade": 2})


def test_a_name_is_given_once() -> None:
    colours = registry()
    with pytest.raises(ValueError, match="'red'"):
        colours.add(Entry("red", print))


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), *(each for each in sys.path if each)])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_entries_of_other_packages_are_found_by_entry_points_and_a_broken_one_is_named(tmp_path: Path) -> None:
    for package, code in (("garden", GARDEN), ("weeds", "import no_such_module")):
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[deadhead.criteria]\n{package} = {package}\n")
    done = run(
        tmp_path,
        "import atexit, sys; atexit.register(lambda: print('waited' if 'scipy' in sys.modules else 'at once'));"
        "from deadhead.cli import main; sys.argv = ['deadhead', 'list', 'criteria']; main()",
    )
    assert done.stdout.endswith("at once\n"), "the lab's imports wait until a command needs them"
    assert "obs" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "first_come" in line]
    assert "The number of the unit, times `step`." in line
    assert "step=1.0" in line
    assert "entry point weeds = weeds of the group deadhead.criteria cannot be loaded" in done.stderr
    assert "garden" not in done.stderr
