"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help=__doc__ and "Make a trained PyTorch network smaller, and find out what its units are worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MODEL_HELP = (
    "The model: package.module:factory, a function without arguments (or a module object) that gives a trained "
    "torch.nn.Module, the current folder searched first; or a .pt2 file written by torch.export.save, whose graph "
    "needs no class. Reading a .pt2 can run code that it holds, so it needs --trust."
)
DATA_HELP = (
    "The calibration data: package.module:factory, a function without arguments that gives an iterable of batches "
    "(inputs, targets); or digits or mnist, the training part of those."
)

Model = Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")]
Data = Annotated[str, typer.Option(help=DATA_HELP, metavar="DATA")]
LossName = Annotated[
    str,
    typer.Option(help="cross_entropy, mse, squared_error, binary_cross_entropy, model, or package.module:function."),
]
Criterion = Annotated[
    str,
    typer.Option(
        help="What a unit is judged by: magnitude, random, zeros, activation_mean, "
        "activation_std, taylor1, taylor2, taylor2_exact, taylor2_gauss_newton, mrs, mrs_positions, mrp, certificate, "
        "oracle, obs (with the others taking over)."
    ),
]
Samples = Annotated[int, typer.Option(help="Rows of the calibration data to read; a fifth of them is held out.")]
Trust = Annotated[bool, typer.Option("--trust", help="Read a .pt2 file although that can run code that it holds.")]
Seed = Annotated[int, typer.Option(help="Seed of whatever is drawn.")]


lab = typer.Typer(
    help="Experiments of the papers that deadhead implements, run again.", no_args_is_help=True, add_completion=False
)
app.add_typer(lab, name="lab")


@app.callback()
def _root() -> None:
    """Make a trained PyTorch network smaller, and find out what its units are worth."""


@app.command()
def demo(
    data: Annotated[
        str, typer.Option(help="digits (comes with scikit-learn) or mnist (from $DEADHEAD_DATA, else downloaded).")
    ] = "digits",
    units: Annotated[float, typer.Option(help="The fraction of every group's units that is left.")] = 0.5,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("report"),
    seed: Seed = 0,
) -> None:
    """Train a small convolutional network, halve it without retraining, and show what came out."""
    from deadhead.cli.demo import run

    run(data, units, out, seed)


@app.command()
def inspect(
    model: Model,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, metavar="DATA")] = None,
    shape: Annotated[
        str | None, typer.Option(help="Shape of one example input instead of data, as in 1,3,224,224.")
    ] = None,
    trust: Trust = False,
) -> None:
    """List the groups of units of a model, who reads them, and why other axes are fixed."""
    from deadhead.cli.commands import show_units

    show_units(model, data, shape, trust)


@app.command()
def score(
    model: Model,
    data: Data,
    loss: LossName = "cross_entropy",
    criterion: Criterion = "mrs",
    absolute: Annotated[bool, typer.Option(help="Absolute values of signed criteria.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the saliencies of every unit to this JSON file.")] = None,
    samples: Samples = 4096,
    seed: Seed = 0,
    trust: Trust = False,
) -> None:
    """Say what each unit of a model is worth."""
    from deadhead.cli.commands import show_scores

    show_scores(
        model, data, out, loss=loss, criterion=criterion, trust=trust, absolute=absolute, samples=samples, seed=seed
    )


@app.command()
def oracle(
    model: Model,
    data: Data,
    loss: LossName = "cross_entropy",
    remove: Annotated[
        str | None, typer.Option(help="How many units go: a count, or a fraction of all. By default all that can.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact/--race", help="Look at every unit on all rows, or let the units race on a few.")
    ] = True,
    tolerance: Annotated[float, typer.Option(help="Of a race: by how much of the loss a pick may be worse.")] = 1e-3,
    confidence: Annotated[float, typer.Option(help="Of a race: how sure a round's comparisons are.")] = 0.9,
    only: Annotated[list[str] | None, typer.Option(help="Only groups whose module name matches (repeatable).")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave groups whose module name matches (repeatable).")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the order and the losses.")] = Path("order.json"),
    samples: Samples = 4096,
    seed: Seed = 0,
    trust: Trust = False,
) -> None:
    """Find the order in which units can go at the least loss, by looking: brute force, made affordable.

    The state is kept beside OUT while it runs: the same command goes on from there after a kill. OUT is what
    `deadhead prune --plan OUT` takes.
    """
    from deadhead.cli.commands import find_order

    find_order(
        model, data, out, loss=loss, remove=remove, exact=exact, tolerance=tolerance, confidence=confidence,
        only=only or [], exclude=exclude or [], samples=samples, seed=seed, trust=trust,
    )  # fmt: skip


def _methods(wanted: bool) -> None:
    if wanted:
        from deadhead.cli.attribute import list_methods

        list_methods()
        raise typer.Exit


@app.command()
def attribute(
    model: Model,
    image: Annotated[list[Path] | None, typer.Option(help="A picture to explain (repeatable).")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Samples to explain instead: package.module:factory, or the test part of digits or mnist.",
            metavar="DATA",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many images or samples are drawn, the first ones.")] = 8,
    target: Annotated[
        int | None, typer.Option(help="Which output to explain; by default the largest of each picture.")
    ] = None,
    method: Annotated[str, typer.Option(help="The attribution method, a name that --methods lists.")] = "blame_bias",
    methods: Annotated[
        bool, typer.Option("--methods", help="List the attribution methods and exit.", is_eager=True, callback=_methods)
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="A picture to compare with, instead of a blank one (baseline and others).")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Channels, height and width to give to the model, as in 1,28,28; else the picture's own."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="What to subtract of pixels in 0..1: a number, or one for each channel.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="What to divide by after that.")] = None,
    out: Annotated[Path, typer.Option(help="File for the picture: png, pdf or svg.")] = Path("relevance.png"),
    trust: Trust = False,
) -> None:
    """Attribute an output to inputs and biases, by LRP, gradients or DeepLIFT: a heatmap, and a bar for each bias.

    With blame_bias, inputs and biases add up to the output exactly. For other methods the rest is shown: `absorbed` is
    what rules gave to nothing, `residual` what is missing.
    """
    from deadhead.cli.attribute import show_relevance

    show_relevance(
        model, out, images=image or [], data=data, rows=rows, target=target, method=method, baseline=baseline,
        shape=shape, mean=mean, std=std, trust=trust,
    )  # fmt: skip


@app.command()
def prune(
    model: Model,
    data: Data,
    out: Annotated[
        Path, typer.Option(help="Folder for the pruned weights, the surgery, report.html and report.json.")
    ] = Path("pruned"),
    units: Annotated[
        str | None, typer.Option(help="What is left of every group: a fraction (0.5) or a count (32).")
    ] = None,
    params: Annotated[str | None, typer.Option(help="What is left of all parameters: a fraction or a count.")] = None,
    macs: Annotated[
        str | None, typer.Option(help="What is left of the multiply-adds of one row: a fraction or a count.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="What is left of the bytes of weights and activations of one row: a fraction or a count."),
    ] = None,
    latency: Annotated[
        float | None, typer.Option(help="What is left of the seconds of a forward pass here: a fraction.")
    ] = None,
    max_loss_increase: Annotated[
        float | None, typer.Option(help="How much the loss on held-out rows may rise, in its own unit.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="How much the accuracy on held-out rows may drop: 0.01 is one point.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Remove the units of this file, which `deadhead oracle` wrote.", metavar="FILE")
    ] = None,
    first: Annotated[int | None, typer.Option(help="With --plan: only so many, the first to go.")] = None,
    loss: LossName = "cross_entropy",
    criterion: Criterion = "obs",
    compensate: Annotated[
        str,
        typer.Option(
            help="How the units that stay take over: gauss_newton, least_squares, least_squares_one_pass, mean, zero."
        ),
    ] = "gauss_newton",
    only: Annotated[
        list[str] | None, typer.Option(help="Prune only groups whose module name matches (repeatable).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave groups whose module name matches (repeatable).")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="Spend --units in each group (group), or over all groups in one ranking (all).")
    ] = "group",
    normalize: Annotated[
        str | None,
        typer.Option(help="Make groups comparable in one ranking: none, mean, max, l2, rank. By default what suits."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rank anew, compensated, so many times on the way.")] = 1,
    step: Annotated[int | None, typer.Option(help="Rank anew after every so many units.")] = None,
    round_to: Annotated[int, typer.Option(help="Keep multiples of this many units.")] = 1,
    min_units: Annotated[int, typer.Option(help="Keep at least this many units of each group.")] = 1,
    width: Annotated[
        bool | None,
        typer.Option(
            "--width/--no-width",
            help="Prune the width of residual streams too, through LayerNorm; approximate. By default, only where "
            "nothing else can be cut.",
        ),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Data that no decision sees, to measure on; as --data.", metavar="DATA")
    ] = None,
    samples: Samples = 4096,
    curve: Annotated[
        int, typer.Option(help="Networks to measure besides, to show what less or more pruning would give.")
    ] = 2,
    seed: Seed = 0,
    trust: Trust = False,
) -> None:
    """Prune a model. A budget says what is LEFT; `deadhead.load(OUT, model)` reads the result back.

    OUT also gets model.pt2, a program that runs without the class: torch.export.load(...).module().
    """
    from deadhead.cli.commands import prune_model

    prune_model(
        model, data, out, budgets={"units": units, "params": params, "macs": macs, "memory": memory}, latency=latency,
        max_loss_increase=max_loss_increase, max_accuracy_drop=max_accuracy_drop, plan=plan, first=first, loss=loss,
        criterion=criterion, compensate=compensate, scope=scope, normalize=normalize, rounds=rounds, step=step,
        only=only or [], exclude=exclude or [], round_to=round_to, min_units=min_units, width=width, test=test,
        samples=samples, curve=curve, seed=seed, trust=trust,
    )  # fmt: skip


@lab.callback()
def _lab() -> None:
    """Experiments of the papers that deadhead implements, run again."""


@lab.command("list")
def lab_list() -> None:
    """List the experiments, their settings and what each measures."""
    from deadhead.cli.lab import list_experiments

    list_experiments()


@lab.command("run")
def lab_run(
    name: Annotated[str, typer.Argument(help="An experiment that `deadhead lab list` names.", metavar="EXPERIMENT")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in factor=5 (repeatable).", metavar="NAME=VALUE")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; by default the experiment's own.")] = None,
) -> None:
    """Run an experiment and print its results."""
    from deadhead.cli.lab import run_and_show

    run_and_show(name, settings or [], seed)


@lab.command()
def consistency() -> None:
    """Check which relevance rules agree where they see the same op: `lab run consistency`."""
    from deadhead.cli.lab import run_and_show

    run_and_show("consistency", [], None)
