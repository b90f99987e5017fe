"""SLURM: a job that is warned of its end (SIGUSR1) is queued again, and goes on from its checkpoint when it comes back.

Lightning's plugin for SLURM does the first in the signal's handler, and the second from checkpoints of its own.
"""

import logging
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mbvision.commands.run_folder import first_process

INTERACTIVE = ("interactive", "bash")
"""Names of jobs in which somebody types: those are not queued again."""

logger = logging.getLogger(__name__)


def requeue(environment: Mapping[str, str] = os.environ) -> None:
    """Ask SLURM to queue this job again, from its first process; outside of a batch job nothing happens."""
    job = job_id(environment)
    if job is None or not first_process():
        return
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("job %s was not queued again: scontrol cannot be run (%s)", job, error)
        return
    if done.returncode:
        logger.warning("job %s was not queued again: %s", job, " ".join(done.stderr.split()) or "scontrol failed")
    else:
        logger.info("job %s is queued again", job)


def job_id(environment: Mapping[str, str]) -> str | None:
    """What ``scontrol`` calls the batch job that this process is part of; None outside of one."""
    if environment.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    array = environment.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{environment.get('SLURM_ARRAY_TASK_ID')}" if array else environment.get("SLURM_JOB_ID", "")
    return job if re.fullmatch(r"\d+(_\d+)?", job) else None


def requeued_checkpoint(run_dir: str | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The checkpoint that a job which was queued again goes on from: ``last.ckpt`` of the run folder it names."""
    if run_dir is None or environment.get("SLURM_RESTART_COUNT", "0") == "0":
        return None
    path = Path(run_dir) / "last.ckpt"
    return path if path.is_file() else None
