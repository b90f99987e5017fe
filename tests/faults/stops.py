"""What ends a run from outside, each tried on a run of its own: the exit code, the last line, and the seconds it took.

    python -m tests.faults.stops [PART OF A NAME ...] [--root datasets/scenes]

Runs are of one process, forked, or of two, started as a user starts them. A row is right if its exit code is the
expected one, the message is one line with the expected words, and ``last.ckpt``, where there should be one, loads.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mbvision import checkpoint
from mbvision.commands import (
    evaluate,
    fitting,  # noqa: F401 - imported once, before the forks
    train,
)
from mbvision.errors import CheckpointError
from tests.faults import forks, kills, mounts

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 240.0
TRAIN = [*kills.SETTINGS, "loader.workers=0", "trainer.max_epochs=50"]
TWO = ["trainer.devices=2", "trainer.strategy=ddp"]
SAVED, STARTED = "saved .*last.ckpt", "run folder"


@dataclass(kw_only=True, slots=True)
class Case:
    """A fault, and what has to come of it. ``at`` is the line of the log (a pattern) after which it strikes."""

    name: str
    fault: Callable[[int, Path], object]
    code: int
    words: str
    at: str = SAVED
    settings: list[str] = field(default_factory=list)
    two: bool = False
    scores: bool = False
    prepare: Callable[[Path], object] = lambda folder: None
    survives: bool = True


def send(signum: int) -> Callable[[int, Path], object]:
    """A fault: a signal to the process."""
    return lambda pid, folder: os.kill(pid, signum)


def nothing(pid: int, folder: Path) -> None:
    """No fault: the start is to fail by itself."""


def kill_reader(pid: int, folder: Path) -> None:
    """Kill one of the processes that read pictures."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)


def fill_disk(free: int) -> Callable[[int, Path], object]:
    """A fault: the process's run folder has so many bytes left."""

    def fill(pid: int, folder: Path) -> None:
        place = Path(f"/proc/{pid}/root{folder.parent}")
        rest = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - free
        with (place / "filler").open("wb") as file:
            for _ in range(max(rest, 0) // 4096):
                file.write(bytes(4096))

    return fill


def small_disk(folder: Path, size: int = 64 * 2**20, *, read_only: bool = False) -> None:
    """The run folder lies on a small file system."""
    mounts.own_mounts()
    mounts.mount_memory(folder.parent, size, read_only=read_only)


def small_shared_memory(folder: Path) -> None:
    """/dev/shm has 16 MiB."""
    mounts.own_mounts()
    mounts.mount_memory(Path("/dev/shm"), 16 * 2**20)


def cases() -> list[Case]:
    """All of them; those that need a mount only where it is permitted."""
    term, interrupt, user = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
    resumes = r"after step \d+; resume=\S+ goes on"
    found = [
        Case(name="SIGTERM, start", fault=send(term), code=143, words="stopped by SIGTERM", at="", survives=False),
        Case(name="SIGINT, start", fault=send(interrupt), code=130, words="stopped by SIGINT", at="", survives=False),
        Case(name="SIGTERM, training", fault=send(term), code=143, words=f"stopped by SIGTERM {resumes}"),
        Case(name="SIGINT, training", fault=send(interrupt), code=130, words=f"stopped by SIGINT {resumes}"),
        Case(name="SIGUSR1, training", fault=send(user), code=143, words=f"stopped by SIGUSR1 {resumes}"),
        Case(
            name="SIGTERM, evaluation",
            fault=send(term),
            code=143,
            words="stopped by SIGTERM",
            scores=True,
            at="Validation",
        ),
        Case(
            name="reader killed",
            fault=kill_reader,
            code=2,
            words=r"process \d+, which reads pictures, was killed by SIGKILL; in its hands: ",
            settings=["loader.workers=2"],
        ),
        Case(
            name="SIGTERM to the first of two, start",
            fault=send(term),
            code=143,
            words="stopped by SIGTERM",
            at=STARTED,
            two=True,
            survives=False,
        ),
        Case(
            name="SIGTERM to the first of two, training",
            fault=send(term),
            code=143,
            words=f"stopped by SIGTERM {resumes}",
            two=True,
        ),
    ]
    if not mounts.permitted():
        print("mounts are not permitted here: no full disk, no read-only folder, no small shared memory")
        return found
    full = r"(last|best)\.ckpt cannot be written: No space left on device; the old file is as it was"
    return [
        *found,
        Case(
            name="disk full, 40 kB left",
            fault=fill_disk(40_000),
            code=2,
            words=full,
            prepare=small_disk,
        ),
        Case(
            name="disk full, nothing left",
            fault=fill_disk(0),
            code=2,
            words=r"error: \S+: No space left on device: free some space",
            prepare=small_disk,
        ),
        Case(
            name="disk too small for two checkpoints",
            fault=nothing,
            code=2,
            words="two checkpoints need",
            at="",
            survives=False,
            prepare=lambda folder: small_disk(folder, 2**20),
        ),
        Case(
            name="read-only folder",
            fault=nothing,
            code=2,
            words=r"run_dir=\S+ cannot be written: \S+ is read-only",
            at="",
            survives=False,
            prepare=lambda folder: small_disk(folder, read_only=True),
        ),
        Case(
            name="16 MiB of shared memory",
            fault=nothing,
            code=2,
            words=r"need \d+ MiB of shared memory; /dev/shm has \d+ MiB free",
            at="",
            settings=["loader.workers=2", "loader.batch_size=64", "input_size=320"],
            survives=False,
            prepare=small_shared_memory,
        ),
    ]


def begin(case: Case, folder: Path, log: Path, root: str, scored: Path) -> "int | subprocess.Popen[bytes]":
    """Start the run of a case."""
    line = [f"data.root={root}", *TRAIN, *case.settings, f"run_dir={folder}"]
    if case.two:
        command = [sys.executable, str(REPOSITORY / "tools" / "train.py"), *line, *TWO]
        return subprocess.Popen(
            command, stdout=log.open("ab"), stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if case.scores:
        line = [f"checkpoint={scored}", f"data.root={root}", "loader.workers=0", "device=cpu", "loader.batch_size=1"]
        return forks.start(evaluate.main, line, log)
    return forks.start(train.main, line, log, prepare=lambda: case.prepare(folder))


def try_out(case: Case, place: Path, root: str, scored: Path) -> tuple[bool, int | None, float, str]:
    """Whether the outcome of a case is right, its exit code, the seconds from fault to end, and the last line."""
    place.mkdir()
    folder, log = place / "disk" / "run", place / "log"
    folder.parent.mkdir()
    log.touch()
    process = begin(case, folder, log, root, scored)
    pid = process if isinstance(process, int) else process.pid
    began = time.monotonic()
    while not re.search(case.at, log.read_text(errors="replace")) and time.monotonic() < began + PATIENCE:
        time.sleep(0.01)
    if not case.at:
        time.sleep(0.7)
    keep = os.open(f"/proc/{pid}/root{folder.parent}", os.O_RDONLY)  # what the process sees there, after its end too
    began = time.monotonic()
    case.fault(pid, folder)
    code = forks.wait(pid, PATIENCE)
    seconds = time.monotonic() - began
    if code is None:
        forks.kill(pid)
    lines = log.read_text(errors="replace").splitlines()
    last = lines[-1] if lines else ""
    right = code == case.code and re.search(case.words, last) is not None and "Traceback" not in "\n".join(lines)
    if case.survives and not case.scores:
        try:
            checkpoint.read(Path(f"/proc/self/fd/{keep}/{folder.name}/last.ckpt"))
        except CheckpointError as error:
            right, last = False, str(error)
    os.close(keep)
    return right, code, seconds, last.replace(str(folder), "RUN")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 if all rows are right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--root", default="datasets/scenes")
    wanted = parser.parse_args(arguments)
    chosen = [case for case in cases() if not wanted.names or any(name in case.name for name in wanted.names)]
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        scored = place / "scored" / "best.ckpt"
        if any(case.scores for case in chosen):
            line = [f"data.root={wanted.root}", *TRAIN, "trainer.max_steps=1", f"run_dir={scored.parent}"]
            forks.wait(forks.start(train.main, line, place / "scored.log"), PATIENCE)
        print(f"{'':<5} {'fault':<40} {'code':>4} {'seconds':>7}  message")
        for number, case in enumerate(chosen):
            right, code, seconds, last = try_out(case, place / str(number), wanted.root, scored)
            wrong += not right
            print(f"{'right' if right else 'WRONG'} {case.name:<40} {code!s:>4} {seconds:7.1f}  {last}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
