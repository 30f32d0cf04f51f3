"""The tower: no import runs upward or in a circle, nothing low down prints, and the public face explains itself."""

from __future__ import annotations

import ast
import doctest
from pathlib import Path

import pytest

import deadhead

ROOT = Path(deadhead.__file__).parent
FLOORS = (
    ("errors", "record", "progress", "drawing", "files"),
    ("graph",),
    ("data",),
    ("blocks",),
    ("gates", "reconstruction", "consumers", "output_curvature", "statistics", "stacked", "apart", "relevance"),
    ("scores",),
    ("select", "watch", "training"),
    ("remove", "compensate", "cut"),
    ("saved", "trials", "tradeoff", "notes"),
    ("prune", "pruning"),
    ("report",),
    ("lab", "explore"),
    ("cli",),
)
ORDER = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MAY_IMPORT = {"report": {"record", "errors", "progress", "drawing", "report"}, "lab": {"errors", "progress", "lab"}}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(name: str) -> set[str]:
    """The modules of deadhead that a file names in its imports, also inside functions."""
    tree = ast.parse(FILES[name].read_text())
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
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
    return {each for each in found if each.split(".")[0] == "deadhead"}


def room(name: str) -> str:
    return f"{name}.".split(".")[1]


def test_every_file_lies_in_a_room_of_the_tower() -> None:
    assert len(FILES) > 30
    assert {room(name) for name in FILES} - {""} <= set(ORDER)


@pytest.mark.parametrize("name", [name for name in FILES if name != "deadhead"])
def test_no_import_runs_upward(name: str) -> None:
    own = room(name)
    for target in imports_of(name):
        if target == "deadhead":
            assert own == "cli", f"{name} imports the public face"
            continue
        assert ORDER[room(target)] <= ORDER[own], f"{name} imports {target}, which is above it"
        if room(target) != own:
            allowed = MAY_IMPORT.get(own)
            assert allowed is None or room(target) in allowed, f"{name} imports {target}"


def test_no_import_runs_in_a_circle() -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done:
            return
        for target in imports_of(name):
            if target in FILES and target != name:
                walk(target, (*path, name))
        done.add(name)

    for name in FILES:
        walk(name, ())


def test_rooms_of_one_floor_do_not_import_each_other() -> None:
    apart = {("lab", "explore"), ("explore", "lab"), ("select", "watch", "training"), ("watch", "select")}
    for name in FILES:
        for target in imports_of(name):
            assert (room(name), room(target)) not in apart, f"{name} imports {target}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("deadhead.graph.units.rules.")])
def test_a_family_of_ops_knows_the_registry_and_labels_and_no_other_family(name: str) -> None:
    allowed = {"deadhead.graph.units.registry", "deadhead.graph.units.labels", "deadhead.graph.nodes"}
    assert imports_of(name) <= allowed, f"{name} imports {imports_of(name) - allowed}"


@pytest.mark.parametrize("name", [name for name in FILES if ORDER.get(room(name), 99) < ORDER["report"]])
def test_nothing_below_the_report_prints_or_draws(name: str) -> None:
    tree = ast.parse(FILES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input", "breakpoint"), f"{name}, line {node.lineno}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            drawing = {"rich", "typer", "matplotlib", "plotly", "tqdm"}
            if name != "deadhead.graph.trace":  # which silences torch's own log
                drawing.add("logging")
            if name in ("deadhead.drawing", "deadhead.relevance.heatmap"):  # which draws when a person asks for it
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
