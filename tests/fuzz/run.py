"""The long run: `python tests/fuzz/run.py --cases 10000 --workers 2 --state .fuzz/state.json`.

A case is one plan on one exported architecture. The state is written beside and renamed after every few exports, so
that a run that was killed goes on where it was. Exit status 1 if any case fails.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from architectures import draw
from check import examine, minimise
from masked import CASES as CASES_MASKED
from masked import examine_masked
from parts import PARTS

from deadhead.pruning import measure

SAVE_EVERY = 20
SWITCHES = ("merge", "outputs")
"""What `--without` can switch off beside the parts."""


@dataclass
class State:
    """What is known so far: counts of cases by kind, reasons, and every failure with its seed and specification."""

    plans: int
    without: list[str]
    start: int = 0
    exports: int = 0
    units: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    unexplained: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        self.exports += 1
        for kind, reason, units, unexplained in result["outcomes"]:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            self.units += units
            if kind in ("refused", "nothing", "whole"):
                short = f"{kind}: {general(reason)}"
                self.reasons[short] = self.reasons.get(short, 0) + 1
            for each in unexplained:
                short = general(each.split(": ", 1)[-1])
                self.unexplained[short] = self.unexplained.get(short, 0) + 1
        if result["failure"]:
            self.failures.append(result["failure"])

    @property
    def cases(self) -> int:
        return sum(self.kinds.values())

    @property
    def failed(self) -> int:
        return self.kinds.get("disagrees", 0) + self.kinds.get("crashed", 0)


def general(reason: str) -> str:
    """A reason without the names and numbers of one architecture."""
    reason = re.sub(r"\b(parts|head|aux|merge)(\.\w+)*", "M", reason)
    return re.sub(r"\[[\d, ]*\]|\d[\d.e+-]*", "#", reason)[:150]


def one(job: tuple[int, int, tuple[str, ...], bool, bool]) -> dict[str, Any]:
    """The outcomes of one export, as JSON."""
    seed, plans, without, smallest, masked = job
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    measure.LATENCY_SECONDS = 1e-3  # nobody reads it here
    spec = draw(seed, without)
    outcomes = examine_masked(spec, seed) if masked else examine(spec, plans, seed)
    failure = None
    if (worst := next((each for each in outcomes if each.failed), None)) is not None:
        spec = minimise(spec, plans, seed) if smallest and not masked else spec
        failure = {"seed": seed, "kind": worst.kind, "reason": worst.reason, "spec": repr(spec)}
    return {"outcomes": [(o.kind, o.reason, o.units, o.unexplained) for o in outcomes], "failure": failure}


def save(path: Path, state: State) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(vars(state), indent=1))
    os.replace(beside, path)


def load(path: Path, plans: int, without: list[str], start: int) -> State:
    """The state of a run that was stopped; a run with other settings begins anew."""
    if path.exists():
        state = State(**json.loads(path.read_text()))
        if (state.plans, state.without, state.start) == (plans, without, start):
            return state
        print(f"{path} is of a run with other settings; it begins anew")
    return State(plans, without, start)


def table(state: State) -> str:
    total = max(state.cases, 1)
    rows = [("exports", state.exports), ("cases", state.cases), ("units removed", state.units)]
    lines = [f"{name:16}{count:>10,}" for name, count in rows]
    for kind, count in sorted(state.kinds.items(), key=lambda item: -item[1]):
        lines.append(f"{kind:16}{count:>10,}{100 * count / total:>8.2f} %")
    for title, counts in (("why not", state.reasons), ("left whole without a literal", state.unexplained)):
        if counts:
            lines.append(f"{title}:")
            lines += [f"{count:>8,}  {reason}" for reason, count in Counter(counts).most_common(25)]
    for failure in state.failures:
        lines.append(f"{failure['kind']}, seed {failure['seed']}: {failure['reason']}\n    {failure['spec']}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--plans", type=int, default=4, help="plans for each export")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, default=Path(".fuzz/state.json"))
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--without", default="", help="parts to leave out, by name and comma; --list shows them")
    parser.add_argument("--minimise", action="store_true", help="drop steps of failing cases while they fail")
    parser.add_argument("--masked", action="store_true", help="close units and train before the cut; 2 plans each")
    parser.add_argument("--list", action="store_true", help="show the parts")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{part.kind:12} {name}" for name, part in PARTS.items()), *SWITCHES, sep="\n")
        return 0
    without = sorted(filter(None, given.without.split(",")))
    if unknown := [name for name in without if name not in PARTS and name not in SWITCHES]:
        parser.error(f"there is no part {unknown[0]}; --list shows them")
    given.plans = CASES_MASKED if given.masked else given.plans
    state = load(given.state, given.plans, without, given.start)
    exports = -(-given.cases // given.plans)
    seeds = range(given.start + state.exports, given.start + exports)
    jobs = [(seed, given.plans, tuple(without), given.minimise, given.masked) for seed in seeds]
    began, before = time.perf_counter(), state.seconds
    with multiprocessing.get_context("spawn").Pool(given.workers, maxtasksperchild=200) as pool:
        for done, result in enumerate(pool.imap(one, jobs), 1):
            state.add(result)
            if result["failure"]:
                print(f"{result['failure']['kind']}, seed {result['failure']['seed']}: {result['failure']['reason']}")
            if done % SAVE_EVERY == 0 or done == len(jobs):
                spent = time.perf_counter() - began
                state.seconds = before + spent
                save(given.state, state)
                left = spent / done * (len(jobs) - done)
                verified = 100 * state.kinds.get("verified", 0) / max(state.cases, 1)
                print(
                    f"{state.cases:,} of {given.cases:,} cases, {verified:.1f} % verified, {state.failed} failed, "
                    f"about {left / 60:.0f} min left",
                    flush=True,
                )
    print(table(state))
    return 1 if state.failed else 0


if __name__ == "__main__":
    sys.exit(main())
