"""The options of the commands, each with its help; names come from the registries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deadhead.cli.listing import names

MODEL_HELP = (
    "The trained model: package.module:factory, where factory is a torch.nn.Module or a function without arguments "
    "that returns one (modules of the current folder are found first); or a .pt2 file written by torch.export.save, "
    "which needs no class. Loading a .pt2 can run code that it holds, so it needs --trust."
)
DATA_HELP = (
    "The calibration data: package.module:factory, where factory is an iterable of batches (inputs, targets) or a "
    "function without arguments that returns one; or digits or mnist, the training part of those."
)

BUDGET, RANKING, COMPENSATION, JUDGED = (
    "Budget (exactly one): how much to KEEP, or how much may be lost",
    "How units are ranked",
    "How the remaining units compensate",
    "Loss and data",
)
"""Panels of help."""

Model = Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")]
Data = Annotated[str, typer.Option(help=DATA_HELP, metavar="DATA")]
LossName = Annotated[
    str,
    typer.Option(
        help="The loss: cross_entropy, mse, squared_error, binary_cross_entropy, model (a model that returns its own), "
        "or package.module:function, a function (outputs, batch) that returns a loss for each sample.",
        rich_help_panel=JUDGED,
    ),
]
CriterionName = Annotated[
    str,
    typer.Option(
        help=f"What units are ranked by: {names('criteria')}. `deadhead list criteria` says what each is.",
        rich_help_panel=RANKING,
        metavar="NAME",
    ),
]
CriterionOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--criterion-option",
        help="An option of the criterion (repeatable), as in reference=mean; `deadhead list criteria` has them.",
        rich_help_panel=RANKING,
        metavar="NAME=VALUE",
    ),
]
Samples = Annotated[
    int, typer.Option(help="At most this many samples of the calibration data are read.", rich_help_panel=JUDGED)
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Load a .pt2 file even though it may run code; only for files that you trust.")
]
Seed = Annotated[int, typer.Option(help="Seed of whatever is drawn at random.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        help="Prune only groups whose module name matches this pattern (repeatable).", rich_help_panel=RANKING
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Leave groups whose module name matches this pattern (repeatable).", rich_help_panel=RANKING),
]


def _budget(help_: str) -> Any:
    return typer.Option(help=help_, rich_help_panel=BUDGET, metavar="AMOUNT")


PrunedFolder = Annotated[
    Path, typer.Option(help="Folder for the pruned weights, the list of cuts, report.html and report.json.")
]
UnitsBudget = Annotated[
    str | None, _budget("Units of every group: a fraction (0.5) or a count (32); with --scope all, of all together.")
]
Params = Annotated[str | None, _budget("Parameters: a fraction or a count, as for the next two.")]
Macs = Annotated[str | None, _budget("Multiply-adds of one sample.")]
Memory = Annotated[str | None, _budget("Bytes of weights and of the peak activation memory of one sample.")]
Latency = Annotated[float | None, _budget("Time of a forward pass on this machine (a fraction).")]
MaxLossIncrease = Annotated[float | None, _budget("How much the loss on held-out samples may rise, in its own unit.")]
MaxAccuracyDrop = Annotated[
    float | None, _budget("How much the accuracy on held-out samples may drop: 0.01 is one point.")
]
OtherBudget = Annotated[
    str | None,
    typer.Option(
        help="A budget that another package registered; `deadhead list budgets` has all.",
        rich_help_panel=BUDGET,
        metavar="NAME=AMOUNT",
    ),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        help="Exactly the units of this file, which `deadhead oracle` wrote.",
        rich_help_panel=BUDGET,
        metavar="FILE",
    ),
]
FirstOfPlan = Annotated[
    int | None, typer.Option(help="With --plan: only its first N units.", rich_help_panel=BUDGET, metavar="N")
]
Scope = Annotated[
    str,
    typer.Option(
        help="Apply --units to each group separately (group), or rank all groups together (all).",
        rich_help_panel=RANKING,
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        help="Make the scores of groups comparable in one ranking: none, mean, max, l2 or rank.",
        rich_help_panel=RANKING,
    ),
]
Rounds = Annotated[
    int,
    typer.Option(help="Prune in this many rounds, ranking the remaining units again in each.", rich_help_panel=RANKING),
]
EveryRemovals = Annotated[
    int | None,
    typer.Option(help="Instead of --rounds: rank again after every this many removals.", rich_help_panel=RANKING),
]
RoundTo = Annotated[int, typer.Option(help="Keep multiples of this many units of each group.", rich_help_panel=RANKING)]
MinUnits = Annotated[int, typer.Option(help="Keep at least this many units of each group.", rich_help_panel=RANKING)]
Width = Annotated[
    bool | None,
    typer.Option(
        "--width/--no-width",
        help="Remove units of residual streams too, through LayerNorm, which is approximate. By default only where "
        "nothing else can be cut.",
        rich_help_panel=RANKING,
    ),
]
Compensate = Annotated[
    str,
    typer.Option(
        help=f"How the remaining units take over: {names('compensations')}. `deadhead list compensations` says "
        "what each does.",
        rich_help_panel=COMPENSATION,
        metavar="NAME",
    ),
]
CompensateOption = Annotated[
    list[str] | None,
    typer.Option(
        help="An option of the compensation (repeatable), as in steps=20.",
        rich_help_panel=COMPENSATION,
        metavar="NAME=VALUE",
    ),
]
TestData = Annotated[
    str | None,
    typer.Option(
        help="Data that no decision sees, to measure on; as --data. By default the samples held out of --data.",
        rich_help_panel=JUDGED,
        metavar="DATA",
    ),
]
CurveCount = Annotated[
    int,
    typer.Option(
        help="Measure this many other pruning ratios, for the trade-off curve in the report.",
        rich_help_panel=JUDGED,
    ),
]
