"""The layout: rooms along the path of a prune, wings beside it, what each may import, and what never meets."""

from __future__ import annotations

import ast
import doctest
from pathlib import Path

import pytest

import deadhead

ROOT = Path(deadhead.__file__).parent
GROUND = ("errors", "progress", "files", "registry", "text", "drawing")
PATH = ("graph", "data", "gates", "reconstruction", "scores", "select", "compensate", "cut", "pruning", "report")
"""In the order of a prune: a room imports the ground and the rooms before it."""
WINGS = ("relevance", "training", "lab", "explore", "integrations")
"""They import the path. Those of `OVER_WINGS` import other wings, too."""
OVER_WINGS = ("lab", "explore", "integrations")
TOP = ("cli",)
NEVER = [
    ("report", "torch", "what a report shows is plain data"),
    ("report", "deadhead.graph", "what a report shows is plain data"),
    ("relevance", "deadhead.gates", "relevance runs on the graph alone"),
    ("relevance", "deadhead.scores", "relevance runs on the graph alone"),
    ("training", "deadhead.report", "a loop of the caller's prints what the caller wants"),
]
"""(room, module that no file of it imports, why)."""
MAY_LOG = ("deadhead.graph.trace", "deadhead.training.watching.measuring")
"""Files that silence torch's own log, and that warn a training loop of units that die."""
MAY_DRAW = (
    "deadhead.drawing",
    "deadhead.relevance.heatmap",
    "deadhead.training.watching.panels",
    "deadhead.training.watching.watch",
)
"""Files that draw when a person asks for it, or name the type of a figure."""
ONLY = {"report": ("deadhead.pruning.record",), "relevance": ("deadhead.graph", "deadhead.data")}
"""Rooms that may import less of the path than comes before them."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(name: str) -> set[str]:
    """Every module that a file names in its imports, also inside functions."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in FILES else base)
    return found


def own_imports_of(name: str) -> set[str]:
    return {each for each in imports_of(name) if each.split(".")[0] == "deadhead"}


def room(name: str) -> str:
    return f"{name}.".split(".")[1]


def may_import(own: str) -> set[str]:
    """The rooms that files of a room may import, besides those of their own."""
    if own in GROUND:
        return {"errors"}
    if own in PATH:
        return {*GROUND, *PATH[: PATH.index(own)]}
    wings = WINGS if own in OVER_WINGS else ()
    return {*GROUND, *PATH, *wings} if own in WINGS else {*GROUND, *PATH, *WINGS, ""}


def test_every_file_lies_in_a_room() -> None:
    assert len(FILES) > 30
    assert {room(name) for name in FILES} - {""} <= {*GROUND, *PATH, *WINGS, *TOP}


@pytest.mark.parametrize("name", [name for name in FILES if name != "deadhead"])
def test_imports_run_along_the_path(name: str) -> None:
    own = room(name)
    for target in own_imports_of(name):
        assert room(target) == own or room(target) in may_import(own), f"{name} imports {target}"
        if own in ONLY and room(target) not in (own, *GROUND):
            assert any(f"{target}.".startswith(f"{each}.") for each in ONLY[own]), f"{name} imports {target}"


@pytest.mark.parametrize(("own", "other", "why"), NEVER)
def test_what_never_meets(own: str, other: str, why: str) -> None:
    for name in FILES:
        if room(name) == own:
            met = [each for each in imports_of(name) if f"{each}.".startswith(f"{other}.")]
            assert not met, f"{name} imports {met[0]}, but {why}"


def test_no_import_runs_in_a_circle() -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done:
            return
        for target in own_imports_of(name):
            if target in FILES and target != name:
                walk(target, (*path, name))
        done.add(name)

    for name in FILES:
        walk(name, ())


@pytest.mark.parametrize("name", [name for name in FILES if name.count(".") == 3 and room(name) == "training"])
def test_a_folder_of_training_imports_no_other_folder_of_it(name: str) -> None:
    folder = name.rpartition(".")[0]
    other = {each for each in own_imports_of(name) if each.startswith("deadhead.training.") and each.count(".") == 3}
    assert all(each.startswith(f"{folder}.") for each in other), f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("deadhead.graph.units.rules.")])
def test_a_family_of_ops_knows_the_registry_and_no_other_family(name: str) -> None:
    allowed = {"units.registry", "units.labels", "nodes", "catalogue"}
    other = own_imports_of(name) - {f"deadhead.graph.{each}" for each in allowed}
    assert not other, f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in FILES if room(name) not in ("report", "lab", "explore", "cli")])
def test_nothing_below_the_report_prints_or_draws(name: str) -> None:
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input", "breakpoint"), f"{name}, line {node.lineno}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            drawing = {"rich", "typer", "matplotlib", "plotly", "tqdm"}
            if name not in MAY_LOG:
                drawing.add("logging")
            if name in MAY_DRAW:
                drawing.remove("matplotlib")
            assert not drawing & {each.split(".")[0] for each in names}, f"{name}, line {node.lineno}"


def test_the_public_face_holds_nothing_but_imports() -> None:
    body = ast.parse(FILES["deadhead"].read_text()).body
    assert all(isinstance(node, (ast.ImportFrom, ast.Assign, ast.Expr)) for node in body)
    assert set(deadhead.__all__) >= {"trace", "score", "prune", "load", "DeadheadError"}


def public_functions() -> list[str]:
    return [name for name in deadhead.__all__ if callable(getattr(deadhead, name)) and name.islower()]


@pytest.mark.parametrize("name", public_functions())
def test_every_public_function_has_a_docstring_with_an_example_and_its_errors(name: str) -> None:
    function = getattr(deadhead, name)
    text = function.__doc__ or ""
    examples = doctest.DocTestParser().get_examples(text)
    assert any(example.want for example in examples), f"{name} has no example that shows a result"
    assert "Raises" in text, f"{name} does not say what it raises"


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name].name == "__init__.py"])
def test_every_folder_says_what_lives_there(name: str) -> None:
    assert ast.get_docstring(ast.parse(FILES[name].read_text())), name


def test_all_errors_are_of_one_kind() -> None:
    from deadhead import errors

    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    assert len(kinds) >= 6
    assert all(issubclass(kind, errors.DeadheadError) and kind.__doc__ for kind in kinds)
