"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deadhead.cli.options import (
    DATA_HELP,
    RANKING,
    Compensate,
    CompensateOption,
    CriterionName,
    CriterionOptions,
    CurveCount,
    Data,
    EveryRemovals,
    Exclude,
    FirstOfPlan,
    Latency,
    LossName,
    Macs,
    MaxAccuracyDrop,
    MaxLossIncrease,
    Memory,
    MinUnits,
    Model,
    Normalize,
    Only,
    OtherBudget,
    Params,
    PlanFile,
    PrunedFolder,
    Rounds,
    RoundTo,
    Samples,
    Scope,
    Seed,
    TestData,
    Trust,
    UnitsBudget,
    Width,
)

app = typer.Typer(
    help="Prune a trained PyTorch network to a smaller dense one, score its units, and explain its decisions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

lab = typer.Typer(
    help="Experiments of the papers that deadhead implements, run again.", no_args_is_help=True, add_completion=False
)
app.add_typer(lab, name="lab")


@app.callback()
def _root() -> None:
    """Prune a trained PyTorch network to a smaller dense one, score its units, and explain its decisions."""


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="criteria, compensations, budgets, methods (of attribute) or experiments.")
    ] = None,
) -> None:
    """List what can be named on the command line, with its options: criteria, compensations, budgets, ..."""
    from deadhead.cli.listing import print_listing

    print_listing(kind)


@app.command()
def demo(
    data: Annotated[
        str, typer.Option(help="digits (comes with scikit-learn) or mnist (from $DEADHEAD_DATA, else downloaded).")
    ] = "digits",
    units: Annotated[float, typer.Option(help="The fraction of every group's units that remains.")] = 0.5,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("report"),
    seed: Seed = 0,
) -> None:
    """Train a small convolutional network, prune half of its units without retraining, and write a report."""
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
    """List the groups of units that can be removed, which modules read them, and why others are fixed."""
    from deadhead.cli.commands import show_units

    show_units(model, data, shape, trust)


@app.command()
def score(
    model: Model,
    data: Data,
    loss: LossName = "cross_entropy",
    criterion: CriterionName = "mrs",
    criterion_option: CriterionOptions = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Absolute values of signed scores.", rich_help_panel=RANKING)
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the score of every unit to this JSON file.")] = None,
    samples: Samples = 4096,
    seed: Seed = 0,
    trust: Trust = False,
) -> None:
    """Score every unit of a model by a criterion."""
    from deadhead.cli.commands import show_scores

    show_scores(
        model, data, out, loss=loss, criterion=criterion, options=criterion_option or [], absolute=absolute,
        samples=samples, seed=seed, trust=trust,
    )  # fmt: skip


@app.command()
def oracle(
    model: Model,
    data: Data,
    loss: LossName = "cross_entropy",
    remove: Annotated[
        str | None,
        typer.Option(help="How many units to remove: a count, or a fraction of all. By default all that can be."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact/--race", help="Measure every unit on all samples, or let the units race on a few.")
    ] = True,
    tolerance: Annotated[
        float, typer.Option(help="Of a race: by what fraction of the loss a removal may be worse than the best.")
    ] = 1e-3,
    confidence: Annotated[float, typer.Option(help="Of a race: confidence of the comparisons of one round.")] = 0.9,
    only: Annotated[list[str] | None, typer.Option(help="Only groups whose module name matches (repeatable).")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave groups whose module name matches (repeatable).")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the order and the losses.")] = Path("order.json"),
    samples: Samples = 4096,
    workers: Annotated[int, typer.Option(help="Without a race: batches tried at the same time, in threads.")] = 1,
    seed: Seed = 0,
    trust: Trust = False,
) -> None:
    """Find the order of removal that raises the loss least, by measuring every unit in turn: brute force.

    Its state is kept beside OUT: the same command continues from there after it was stopped. `deadhead prune --plan
    OUT` removes the units.
    """
    from deadhead.cli.commands import find_order

    find_order(
        model, data, out, loss=loss, remove=remove, exact=exact, tolerance=tolerance, confidence=confidence,
        only=only or [], exclude=exclude or [], samples=samples, workers=workers, seed=seed, trust=trust,
    )  # fmt: skip


def _methods(wanted: bool) -> None:
    if wanted:
        from deadhead.cli.listing import print_listing

        print_listing("methods")
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
    from deadhead.cli.attribute import Explained, show_relevance

    explained = Explained(image or [], data, rows, baseline, shape, mean, std)
    show_relevance(model, explained, out, target=target, method=method, trust=trust)


@app.command()
def prune(
    model: Model,
    data: Data,
    out: PrunedFolder = Path("pruned"),
    units: UnitsBudget = None,
    params: Params = None,
    macs: Macs = None,
    memory: Memory = None,
    latency: Latency = None,
    max_loss_increase: MaxLossIncrease = None,
    max_accuracy_drop: MaxAccuracyDrop = None,
    budget: OtherBudget = None,
    plan: PlanFile = None,
    first: FirstOfPlan = None,
    criterion: CriterionName = "obs",
    criterion_option: CriterionOptions = None,
    scope: Scope = "group",
    normalize: Normalize = None,
    rounds: Rounds = 1,
    step: EveryRemovals = None,
    only: Only = None,
    exclude: Exclude = None,
    round_to: RoundTo = 1,
    min_units: MinUnits = 1,
    width: Width = None,
    compensate: Compensate = "gauss_newton",
    compensate_option: CompensateOption = None,
    loss: LossName = "cross_entropy",
    test: TestData = None,
    samples: Samples = 4096,
    curve: CurveCount = 2,
    seed: Seed = 0,
    trust: Trust = False,
) -> None:
    """Prune a model to a budget: how much to KEEP (0.5 is half), or how much worse it may get.

    `deadhead.load(OUT, model)` reads the result back. OUT also gets model.pt2, which runs without the class:
    torch.export.load(...).module().
    """
    from deadhead.cli.commands import options_of, prune_model

    budgets = {
        "units": units, "params": params, "macs": macs, "memory": memory, "latency": latency,
        "max_loss_increase": max_loss_increase, "max_accuracy_drop": max_accuracy_drop,
    }  # fmt: skip
    others = {
        "criterion": criterion, "compensate": compensate, "scope": scope, "normalize": normalize, "rounds": rounds,
        "step": step, "only": only or [], "exclude": exclude or [], "round_to": round_to, "min_units": min_units,
        "width": width, "samples": samples, "curve": curve, "seed": seed,
    }  # fmt: skip
    options = options_of(budgets, budget, plan, first, criterion_option or [], compensate_option or [], others)
    prune_model(model, data, out, options, test=test, loss=loss, trust=trust)


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
    name: Annotated[
        str | None,
        typer.Argument(help="An experiment that `deadhead lab list` names, or a YAML file.", metavar="EXPERIMENT"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting, as in factor=5; a list or range(5) runs each value.", metavar="NAME=VALUE"
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every experiment.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="About a hundredth of the work.")] = False,
    seeds: Annotated[str | None, typer.Option(help="How many seeds, as in 5, or range(5, 10).")] = None,
    processes: Annotated[int, typer.Option(help="How many jobs run at once.")] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(help="Run the jobs by submitit: slurm, local or debug.", metavar="EXECUTOR"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; finished jobs in it are not run again.")] = Path(
        "lab-results"
    ),
    pages: Annotated[Path | None, typer.Option(help="Folder for pages of findings.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard logs.")] = False,
) -> None:
    """Run an experiment, judge its claims, and write results, figures and a page of findings.

    With default settings an experiment's variants are run, too, which separate the causes of what was found. A run
    that was stopped goes on where it was.
    """
    from deadhead.cli.lab import run_and_show

    run_and_show(
        name, settings or [], every=every, quick=quick, seeds=seeds, processes=processes, cluster=cluster, out=out,
        pages=pages, tensorboard=tensorboard,
    )  # fmt: skip


@lab.command("show")
def lab_show(
    name: Annotated[str, typer.Argument(help="An experiment that was run.", metavar="EXPERIMENT")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("lab-results"),
    launch: Annotated[bool, typer.Option("--open", help="Also open the page with its figures.")] = False,
) -> None:
    """Show what an experiment that was run has found."""
    from deadhead.cli.lab import show

    for page in show(name, out):
        if launch:
            typer.launch(str(page))


@lab.command()
def consistency() -> None:
    """Check which relevance rules agree where they see the same op; writes nothing."""
    from deadhead.cli.lab import print_consistency

    print_consistency()
