"""Run jobs in this process or on several processes of this machine."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from typing import Any

from deadhead.errors import DeadheadError
from deadhead.lab.runner.jobs import Job, run_job
from deadhead.progress import Progress


def run_jobs(jobs: Sequence[Job], *, processes: int = 1, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Run those jobs that are not finished, and return what all have written, in order.

    Args:
        jobs: from `jobs_of`.
        processes: how many run at once (default: one after another, in this process).
        progress: called as `progress("LABEL: STEP", done, total)` for every running job.

    Raises:
        DeadheadError: a job failed, or `processes` is less than one.
    """
    if processes < 1:
        raise DeadheadError(f"processes is {processes}: give at least one.")
    waiting = [job for job in jobs if job.record() is None]
    if processes == 1 or len(waiting) < 2:
        for job in waiting:
            run_job(job, progress)
    else:
        _in_pool(waiting, processes, progress)
    return records_of(jobs)


def records_of(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What finished jobs have written, in order."""
    return [record for job in jobs if (record := job.record()) is not None]


def _in_pool(jobs: Sequence[Job], processes: int, progress: Progress | None) -> None:
    # A forked child would inherit torch's threads in an unknown state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context) as pool:
        futures: dict[Future[None], Job] = {pool.submit(run_job, job): job for job in jobs}
        running = set(futures)
        while running:
            done, running = wait(running, timeout=0.5, return_when=FIRST_EXCEPTION)
            if progress is not None:
                for job in futures.values():
                    _tell(job, progress)
            for future in done:
                if future.exception() is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                future.result()


def _tell(job: Job, progress: Progress) -> None:
    """Hand on the last whole line of a job's own progress."""
    path = job.place / "progress.jsonl"
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = json.loads(path.read_text().splitlines()[-1])
        progress(f"{job.label}: {line['step']}", line["done"], line["total"])
