"""Run jobs on a SLURM cluster by submitit, as one array of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from deadhead.errors import DeadheadError
from deadhead.lab.runner.jobs import Job, run_job
from deadhead.lab.runner.run import records_of

EXECUTORS = ("slurm", "local", "debug")


def run_on_cluster(
    jobs: Sequence[Job], logs: Path, *, executor: str = "slurm", **parameters: Any
) -> list[dict[str, Any]]:
    """Submit those jobs that are not finished as an array, wait for them, and return what all have written.

    Args:
        jobs: from `jobs_of`, in a folder that the cluster's machines share.
        logs: folder of the cluster's own logs.
        executor: "slurm", "local" (processes of this machine) or "debug" (in this process).
        parameters: of submitit's executor, such as timeout_min, slurm_partition, slurm_array_parallelism.

    Raises:
        DeadheadError: submitit is missing, the executor does not exist, or a job failed.
    """
    if executor not in EXECUTORS:
        raise DeadheadError(f"There is no executor {executor!r}: choose one of {', '.join(EXECUTORS)}.")
    try:
        submitit = import_module("submitit")
    except ImportError as error:
        raise DeadheadError("Running on a cluster needs submitit: pip install submitit.") from error
    waiting = [job for job in jobs if job.record() is None]
    if waiting:
        made = submitit.AutoExecutor(folder=str(logs), cluster=executor)
        made.update_parameters(**parameters)
        for submitted, job in zip(made.map_array(run_job, waiting), waiting, strict=True):
            try:
                submitted.result()
            except Exception as error:
                raise DeadheadError(
                    f"The job {job.label} failed on {executor}: {logs} has its log; finished jobs are not run again."
                ) from error
    return records_of(jobs)
