"""Commands in processes that are forked from one which has imported everything: a start costs no import.

The process that forks must not have run a backward pass: torch forbids its children another one.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mbvision.commands import run
from mbvision.engine.data_module import end_workers


def start(
    command: Callable[[Sequence[str]], int | None],
    arguments: Sequence[str],
    log: Path,
    *,
    prepare: Callable[[], object] = lambda: None,
) -> int:
    """Fork a process that runs a command, with what it says appended to ``log``; its process id.

    ``prepare`` is called in it first: for limits, mounts, and the like.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        prepare()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        torch.set_num_threads(1)
        code = run(command, arguments)
        sys.stdout.flush()
    except BaseException:  # the process ends here: nothing above would print it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        end_workers()  # of all that Python does at its end; the rest is the business of the process that forked
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    """The exit code of a process, negative for a signal; None if it has not ended in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def kill(pid: int) -> None:
    """Kill a process at once, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
