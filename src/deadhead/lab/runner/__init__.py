"""Running experiments over seeds and options: what to run (`configuration`), one job (`jobs`), all of them (`run`).

Jobs run in this process, on several processes of this machine, or on a SLURM cluster (`cluster`). Each seed's result is
a file, and a job whose file is there is not run again unless the experiment's code has changed. May import anything of
the lab; nothing here prints.
"""

from __future__ import annotations

from deadhead.lab.runner.cluster import run_on_cluster
from deadhead.lab.runner.configuration import Plan, read_plan
from deadhead.lab.runner.jobs import Job, jobs_of
from deadhead.lab.runner.run import run_jobs

__all__ = ["Job", "Plan", "jobs_of", "read_plan", "run_jobs", "run_on_cluster"]
