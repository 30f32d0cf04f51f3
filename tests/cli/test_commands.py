"""The command line: what it writes and prints, one line and status 2 for bad input, and nothing written then."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import deadhead as dh
from deadhead.cli import main
from deadhead.select.brute_force import oracle as oracles
from support.snapshot import files_of

MINE = """
import torch
from torch import nn

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))

built = model()

def data():
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        yield torch.randn(16, 3, generator=generator), torch.randint(2, (16,), generator=generator)

def test():
    return list(data())[:1]

def pixels():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 4))

def wide():
    return [(torch.randn(16, 5), torch.randint(2, (16,)))]

def empty():
    return []

def number():
    return 3

def spoilt():
    return [(torch.full((16, 3), float("nan")), torch.randint(2, (16,)))]

def no_loss_per_sample(outputs, batch):
    return outputs.sum()

def absolute(outputs, batch):
    return outputs.abs().sum(1)

class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)

def fixed():
    return nn.Sequential(nn.Linear(3, 4), nn.Softmax(1))
"""

Run = Callable[..., tuple[int, str, str]]
DATA = ("--data", "mine:data")
HALF = ("--units", "0.5")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`run("score", ...)` in a folder of its own: the exit status, standard output and standard error."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deadhead", *arguments])
        capsys.readouterr()
        try:
            main()
        except SystemExit as left:
            code = left.code
        else:
            code = 0
        captured = capsys.readouterr()
        return code if isinstance(code, int) else int(code is not None), captured.out, captured.err

    yield run
    sys.modules.pop("mine", None)


# -- what it does ----------------------------------------------------------------------------------------------------


def test_inspect_lists_groups_readers_and_reasons(run: Run) -> None:
    for arguments in (("--shape", "1,3"), ("--shape", "4x3"), ("--data", "mine:data")):
        code, out, _ = run("inspect", "mine:model", *arguments)
        assert code == 0
        lines = [line.split() for line in out.splitlines()]
        text = [" ".join(part for part in line if part.isalnum()) for line in lines]
        assert "0 8 unit 0 2" in text
        assert "2 6 unit 2 4" in text
        assert "it is an output of the model" in out


def test_score_prints_and_writes_every_saliency(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("score", "mine:model", "--data", "mine:data", "--criterion", "taylor1", "--out", "scores.json")
    assert code == 0
    assert "scores by taylor1" in out
    lines = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
    sys.path.insert(0, str(tmp_path))
    import mine

    expected = dh.score(mine.model(), mine.data(), loss="cross_entropy", criterion="taylor1")
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found == {name: pytest.approx(value.tolist(), rel=1e-6) for name, value in expected.items()}
    for name, value in expected.items():
        numbers = " ".join(f"{number:.4g}" for number in (value.min(), value.median(), value.max()))
        lowest = ", ".join(str(unit) for unit in value.argsort().tolist()[: 6 if len(value) == 6 else 5])
        more = "" if len(value) == 6 else f" and {len(value) - 5} more"
        assert f"{name} {len(value)} {numbers} {lowest}{more}" in lines
    run("score", "mine:built", "--data", "mine:data", "--criterion", "taylor1", "--absolute", "--out", "other.json")
    other = json.loads((tmp_path / "other.json").read_text())
    assert other == {name: pytest.approx(value.abs().tolist(), rel=1e-6) for name, value in expected.items()}


def test_prune_writes_a_folder_that_load_reads_back(run: Run, tmp_path: Path) -> None:
    code, out, err = run(
        "prune", "mine:model", "--data", "mine:data", "--test", "mine:test", "--units", "0.5", "--out", "smaller",
        "--loss", "cross_entropy", "--seed", "3",
    )  # fmt: skip
    assert code == 0, err
    names = {path.name for path in (tmp_path / "smaller").iterdir()}
    assert {"weights.safetensors", "surgery.json", "report.json", "report.html"} <= names
    sys.path.insert(0, str(tmp_path))
    import mine

    expected = dh.prune(mine.model(), mine.data(), loss="cross_entropy", units=0.5, test=mine.test(), seed=3)
    found = dh.load(tmp_path / "smaller", mine.model())
    for name, tensor in expected.model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    report = json.loads((tmp_path / "smaller" / "report.json").read_text())
    assert report["headline"].startswith("keeps 50 % of the units: removes 7 of 14")
    assert report["evaluated_on"] == "test"
    assert "keeps 50 %" in out
    assert [path for path in (tmp_path / "smaller").iterdir() if path.suffix == ".part"] == []


def test_the_first_printed_line_of_a_report_says_what_stays_and_what_goes(run: Run) -> None:
    _, out, _ = run("prune", "mine:model", "--data", "mine:data", "--units", "0.5")
    first = next(line for line in out.splitlines() if line.strip())
    assert "keeps 50 %" in first
    assert "removes 7 of 14" in first


def test_options_reach_the_prune(run: Run, tmp_path: Path) -> None:
    code, _, err = run(
        "prune", "mine:model", "--data", "mine:data", "--params", "60", "--criterion", "magnitude", "--compensate",
        "mean", "--only", "0", "--round-to", "2", "--min-units", "2", "--samples", "20", "--loss", "mine:absolute",
        "--out", "inner/smaller",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads((tmp_path / "inner" / "smaller" / "report.json").read_text())
    assert (report["budget"], report["criterion"], report["compensation"]) == ("params=60", "magnitude", "mean")
    assert report["calibration_rows"] == 20
    assert report["loss_name"] == "absolute"
    assert [group["name"] for group in report["groups"]] == ["0"]
    assert report["settings"]["round_to"] == 2


def test_an_order_of_the_oracle_can_be_pruned_by(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("oracle", "mine:model", *DATA, "--remove", "9", "--out", "order.json")
    assert code == 0
    assert "9 units removed" in out
    told = json.loads((tmp_path / "order.json").read_text())
    assert len(told["order"]) == 9
    assert len(told["losses"]) == 10
    assert not (tmp_path / "order.json.state").exists()
    code, _, _ = run("prune", "mine:model", *DATA, "--plan", "order.json", "--first", "5", "--out", "smaller")
    assert code == 0
    report = json.loads((tmp_path / "smaller/report.json").read_text())
    gone = {(group["name"], unit) for group in report["groups"] for unit in group["removed"]}
    assert gone == {(name, unit) for name, unit in told["order"][:5]}


def test_a_stopped_oracle_goes_on_where_it_was(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("oracle", "mine:model", *DATA, "--remove", "0.5", "--out")
    assert run(*arguments, "whole.json")[0] == 0
    rounds = []
    original = oracles.Exact.next

    def stopped(self: oracles.Exact, order: list[tuple[str, int]]) -> tuple[tuple[str, int], float]:
        rounds.append(len(order))
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return original(self, order)

    monkeypatch.setattr(oracles.Exact, "next", stopped)
    with contextlib.suppress(KeyboardInterrupt):
        run(*arguments, "part.json")
    assert (tmp_path / "part.json.state").exists()
    assert not (tmp_path / "part.json").exists()
    assert run(*arguments, "part.json")[0] == 0
    assert rounds == [0, 1, 2, 2, 3, 4, 5, 6]
    assert (tmp_path / "part.json").read_text() == (tmp_path / "whole.json").read_text()


def test_units_without_a_point_are_a_count(run: Run, tmp_path: Path) -> None:
    assert run("prune", "mine:model", "--data", "mine:data", "--units", "3")[0] == 0
    report = json.loads((tmp_path / "pruned" / "report.json").read_text())
    assert [8 - len(report["groups"][0]["removed"]), 6 - len(report["groups"][1]["removed"])] == [3, 3]


def test_demo_trains_prunes_and_writes_a_page_and_numbers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deadhead.cli import demo

    monkeypatch.setattr(demo, "DIGITS", {**demo.DIGITS, "epochs": 1})
    monkeypatch.setattr(demo, "SAMPLES", 300)
    code, out, err = run("demo", "--units", "0.5", "--out", "seen")
    assert code == 0, err
    report = json.loads((tmp_path / "seen" / "report.json").read_text())
    assert report["headline"].startswith("keeps 50 % of the units: removes 72 of 144")
    assert report["evaluated_on"] == "test"
    assert report["rows"] == 360
    assert report["calibration_rows"] == 300
    assert report["difference"] <= report["tolerance"]
    assert (tmp_path / "seen" / "report.html").stat().st_size > 10_000
    for word in ("units", "parameters", "multiply-adds", "size on disk", "latency", "loss", "accuracy", "predicted"):
        assert word in out


def test_a_program_is_refused_unless_it_is_trusted_and_then_pruned(run: Run, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    import mine

    rows = torch.export.Dim("rows")
    program = torch.export.export(mine.model().eval(), (torch.randn(4, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "net.pt2")
    code, _, err = run("inspect", "net.pt2", "--shape", "2,3")
    assert code == 2
    assert "run code" in err
    assert "--trust" in err
    code, out, _ = run("inspect", "net.pt2", "--shape", "2,3", "--trust")
    assert code == 0
    assert "8" in out
    code, _, err = run("prune", "net.pt2", "--trust", "--data", "mine:data", "--units", "0.5", "--out", "smaller")
    assert code == 0, err
    smaller = torch.export.load(tmp_path / "smaller" / "model.pt2").module()
    count = sum(parameter.numel() for parameter in smaller.parameters())
    assert count == 3 * 4 + 4 + 4 * 3 + 3 + 3 * 2 + 2
    assert smaller(torch.randn(5, 3)).shape == (5, 2)


def test_the_exported_program_computes_what_the_pruned_module_computes(run: Run, tmp_path: Path) -> None:
    run("prune", "mine:model", "--data", "mine:data", "--units", "0.5", "--out", "smaller")
    sys.path.insert(0, str(tmp_path))
    import mine

    program = torch.export.load(tmp_path / "smaller" / "model.pt2").module()
    module = dh.load(tmp_path / "smaller", mine.model()).eval()
    for rows in (1, 2, 9):
        inputs = torch.randn(rows, 3)
        torch.testing.assert_close(program(inputs), module(inputs), rtol=1e-6, atol=1e-6)


def test_help_says_whether_reading_a_program_can_run_code(run: Run) -> None:
    code, out, _ = run("prune", "--help")
    assert code == 0
    assert "can run code" in " ".join(out.replace("│", " ").split())


def test_the_installed_command_runs(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("deadhead")
    command = [str(script)] if script.exists() else [sys.executable, "-c", "from deadhead.cli import main; main()"]
    found = subprocess.run(
        [*command, "inspect", "nothing", "--shape", "1,3"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr == "deadhead: MODEL 'nothing' is not of the form package.module:factory.\n"


# -- what it refuses -------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no colon": (("inspect", "mine", "--shape", "1,3"), "package.module:factory"),
    "no module": (("inspect", "nowhere:model", "--shape", "1,3"), "nowhere cannot be imported"),
    "no attribute": (("inspect", "mine:modell", "--shape", "1,3"), "no modell; it has"),
    "no model": (("inspect", "mine:number", "--shape", "1,3"), "int, not a torch.nn.Module"),
    "weights alone": (("inspect", "net.pth", "--shape", "1,3"), "without a class"),
    "no program": (("inspect", "net.pt2", "--shape", "1,3"), "does not exist"),
    "neither data nor shape": (("inspect", "mine:model"), "either --data or --shape"),
    "data and shape": (("inspect", "mine:model", *DATA, "--shape", "1,3"), "either --data or --shape"),
    "a shape of words": (("inspect", "mine:model", "--shape", "a,b"), "list of sizes"),
    "a shape of zero": (("inspect", "mine:model", "--shape", "0,3"), "size below 1"),
    "a shape that does not fit": (("inspect", "mine:model", "--shape", "2,5"), "cannot be traced"),
    "inspect on no data": (("inspect", "mine:model", "--data", "mine:empty"), "no samples|no batch|empty"),
    "inspect on what is no data": (("inspect", "mine:model", "--data", "mine:number"), "int, not an iterable"),
    "an untraceable line": (("inspect", "mine:Decides", "--shape", "2,3"), r"mine\.py, line \d+"),
    "no data": (("score", "mine:model", "--data", "mine:empty"), "no samples"),
    "no data set": (("score", "mine:model", "--data", "letters"), "no data set.*digits"),
    "spoilt data": (("score", "mine:model", "--data", "mine:spoilt"), "not finite"),
    "data that does not fit": (("score", "mine:model", "--data", "mine:wide"), "cannot be traced"),
    "no criterion": (("score", "mine:model", *DATA, "--criterion", "best"), "no criterion 'best'.*mrs"),
    "no loss": (("score", "mine:model", *DATA, "--loss", "entropy"), "no loss 'entropy'.*cross_entropy"),
    "not per sample": (("score", "mine:model", *DATA, "--loss", "mine:no_loss_per_sample"), "per sample"),
    "scores into nowhere": (("score", "mine:model", *DATA, "--out", "missing/scores.json"), "missing"),
    "no budget": (("prune", "mine:model", *DATA), "exactly one budget"),
    "two budgets": (("prune", "mine:model", *DATA, *HALF, "--params", "0.5"), "exactly one budget"),
    "a budget of words": (("prune", "mine:model", *DATA, "--units", "half"), "not a number"),
    "out of range": (("prune", "mine:model", *DATA, "--units", "1.5"), "out of range"),
    "out of reach": (("prune", "mine:model", *DATA, "--params", "5"), "smallest"),
    "nothing to remove": (("prune", "mine:model", *DATA, "--units", "1.0"), "none"),
    "no pattern": (("prune", "mine:model", *DATA, *HALF, "--only", "conv*"), "matches no group"),
    "no compensation": (("prune", "mine:model", *DATA, *HALF, "--compensate", "x"), "no compensation"),
    "nothing to cut": (("prune", "mine:fixed", *DATA, *HALF), "Nothing in Sequential can be cut"),
    "no test data": (("prune", "mine:model", *DATA, *HALF, "--test", "mine:empty"), "no samples"),
    "out is a file": (("prune", "mine:model", *DATA, *HALF, "--out", "mine.py"), "mine.py is a file"),
    "out below a file": (("prune", "mine:model", *DATA, *HALF, "--out", "mine.py/inner"), "mine.py"),
    "no macs": (("prune", "mine:model", *DATA, "--macs", "0.001"), "smallest"),
    "a negative loss": (("prune", "mine:model", *DATA, "--max-loss-increase", "-1"), "from 0 on"),
    "no plan": (("prune", "mine:model", *DATA, "--plan", "nowhere.json"), "nowhere.json is not a file that"),
    "a plan that is none": (("prune", "mine:model", *DATA, "--plan", "mine.py"), "mine.py is not a file that"),
    "first of nothing": (("prune", "mine:model", *DATA, "--first", "3"), "--plan"),
    "an oracle of too many": (("oracle", "mine:model", *DATA, "--remove", "40"), "between 1 and 12"),
    "an oracle into nowhere": (("oracle", "mine:model", *DATA, "--out", "missing/order.json"), "missing"),
    "no rounds": (("prune", "mine:model", *DATA, *HALF, "--rounds", "0"), "rounds"),
    "no scope": (("prune", "mine:model", *DATA, *HALF, "--scope", "here"), "no scope"),
    "no samples": (("prune", "mine:model", *DATA, *HALF, "--samples", "0"), "samples"),
    "no demo data": (("demo", "--data", "letters"), "letters"),
    "a demo of nothing": (("demo", "--units", "0"), "out of range"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_on_standard_error_and_status_two_and_nothing_is_written(
    what: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    from deadhead.cli import demo

    monkeypatch.setattr(demo, "DIGITS", {**demo.DIGITS, "epochs": 1})
    arguments, words = BAD[what]
    before = files_of(tmp_path)
    code, out, err = run(*arguments)
    assert code == 2
    lines = [line for line in err.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("deadhead: ")]
    assert said == lines[-1:], err
    assert re.search(words, said[0])
    assert "Traceback" not in err + out
    assert files_of(tmp_path) == before


def test_a_prune_that_fails_leaves_an_older_result_as_it_was(run: Run, tmp_path: Path) -> None:
    assert run("prune", "mine:model", *DATA, *HALF, "--out", "smaller")[0] == 0
    before = files_of(tmp_path)
    assert run("prune", "mine:model", "--data", "mine:spoilt", *HALF, "--out", "smaller")[0] == 2
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("arguments", [("frobnicate",), ("prune",), ("score", "mine:model"), ("prune", "--wrong")])
def test_a_wrong_call_is_status_two_on_standard_error(arguments: tuple[str, ...], run: Run) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert err


# -- relevance -------------------------------------------------------------------------------------------------------


def picture(path: Path, size: tuple[int, int] = (8, 8), colour: bool = False) -> torch.Tensor:
    """A picture of random pixels at `path`; its grey values in 0..1."""
    from PIL import Image

    pixels = torch.randint(256, (size[1], size[0]), dtype=torch.uint8)
    grey = Image.frombytes("L", size, bytes(pixels.flatten().tolist()))
    (grey.convert("RGB") if colour else grey).save(path)
    return pixels[None] / 255


def test_attribute_explains_pictures_and_draws_them(run: Run, tmp_path: Path) -> None:
    given = torch.stack([picture(tmp_path / "a.png"), picture(tmp_path / "b.png")])
    code, out, err = run("attribute", "mine:pixels", "--image", "a.png", "--image", "b.png", "--target", "2")
    assert code == 0, err
    assert (tmp_path / "relevance.png").read_bytes().startswith(b"\x89PNG")
    sys.path.insert(0, str(tmp_path))
    import mine

    found = dh.attribute(mine.pixels(), given, 2, "blame_bias")
    for sample in (0, 1):
        for name, value in found.contributions(sample).items():
            assert name in out
            assert f"{value:+.4g}" in out
    code, out, err = run(
        "attribute", "mine:pixels", "--image", "a.png", "--mean", "0.5", "--std", "0.25", "--out", "other.svg",
        "--method", "baseline", "--baseline", "b.png",
    )  # fmt: skip
    assert code == 0, err
    assert "<svg" in (tmp_path / "other.svg").read_text()
    moved = (given - 0.5) / 0.25
    compared = dh.attribute(mine.pixels(), moved[:1], None, "baseline", baseline=moved[1:])
    assert f"{float(compared.output[0]):.4g}" in out


def test_attribute_converts_pictures_to_the_shape_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "large.png", (30, 20), colour=True)
    code, _, err = run("attribute", "mine:pixels", "--image", "large.png")
    assert (code, "the pictures have the shape 3,20,30; --shape says which the model takes" in err) == (2, True)
    assert run("attribute", "mine:pixels", "--image", "large.png", "--shape", "1,8,8")[0] == 0


def test_attribute_explains_rows_of_data(run: Run, tmp_path: Path) -> None:
    code, out, err = run("attribute", "mine:model", "--data", "mine:data", "--rows", "9", "--method", "lrp")
    assert code == 0, err
    assert "by lrp (the first 6)" in out
    assert "sample 5" in out
    assert (tmp_path / "relevance.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Give either --image, once for each picture, or --data"),
        (("--image", "missing.png"), "The picture missing.png is not there"),
        (("--image", "mine.py"), "The picture mine.py cannot be read"),
        (("--image", "a.png", "--shape", "2,8,8"), "is not channels (1 or 3), height and width"),
        (("--image", "a.png", "--mean", "x"), "--mean 'x' is not a list of numbers"),
        (("--image", "a.png", "--std", "0"), "--std '0' is not one number"),
        (("--image", "a.png", "--target", "9"), "The target 9 is not among the 4 outputs"),
        (("--image", "a.png", "--method", "lpr"), "There is no method 'lpr'"),
        (("--image", "a.png", "--out", "x.doc"), "no format that can be drawn"),
        (("--image", "a.png", "--out", "no/x.png"), "the folder no is not there"),
        (("--image", "a.png", "--image", "b.png"), "differ in size or colours"),
        (("--data", "mine:data", "--mean", "1"), "DATA gives its inputs as they are"),
        (("--data", "mine:empty"), "holds no batches"),
    ],
)
def test_attribute_refuses_in_a_sentence_and_writes_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", (9, 8))
    before = files_of(tmp_path)
    code, _, err = run("attribute", "mine:pixels", *arguments)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("command", [("lab", "consistency"), ("lab", "run", "consistency", "--set", "factor=5")])
def test_lab_consistency_prints_both_tables(run: Run, command: tuple[str, ...]) -> None:
    code, out, err = run(*command)
    assert code == 0, err
    lines = [[part for part in line.replace("│", " ").split() if part] for line in out.splitlines()]
    assert ["gradient", "deconvnet", "alpha", "yes", "yes"] in lines
    assert ["lrp_0", "pass", "1", "yes", "yes"] in lines
    assert ["radial", "rescale", "yes", "no", "no", "perhaps"] in lines


def test_lab_lists_experiments_and_attribute_its_methods(run: Run) -> None:
    code, out, _ = run("lab", "list")
    assert code == 0
    assert "consistency" in out
    assert "relevance rules" in out
    code, out, _ = run("attribute", "--methods")
    assert code == 0
    for name in ("lrp_gamma", "blame_bias", "integrated_gradients", "steps=32", "DeepLIFT"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("consistancy",), "There is no experiment 'consistancy'; did you mean 'consistency'?"),
        (("consistency", "--set", "size=3"), "The experiment consistency has no option 'size'; its options are factor"),
        (("consistency", "--set", "factor"), "--set 'factor' is not of the form name=value"),
    ],
)
def test_lab_run_refuses_in_a_sentence(run: Run, arguments: tuple[str, ...], says: str) -> None:
    code, _, err = run("lab", "run", *arguments)
    assert code == 2
    assert says in " ".join(err.split())
