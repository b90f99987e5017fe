"""Kill -9 at random moments: what was acknowledged is still there, and the run ends as one that nobody killed.

    python -m tests.faults.kills [KILLS=50] [--seed 0] [--root datasets/scenes]

A training on the built-in scenes saves every second step. It is killed at random moments, after each of which
``last.ckpt`` must load and be no older than the last line "saved"; then it goes on, with another number of loader
processes. Runs that come to their end are compared with an undisturbed one, bit for bit, and the next one starts.
"""

import argparse
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbvision import checkpoint
from mbvision.commands import (
    fitting,  # noqa: F401 - imported once, before the forks
    train,
)
from mbvision.errors import CheckpointError
from tests.faults import forks

SETTINGS = (
    "backbone=mobilenet_v3_small",
    "backbone.width=0.35",
    "input_size=64",
    "loader.batch_size=2",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "trainer.limit_train_batches=14",
    "trainer.limit_val_batches=2",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
    "schedule.warmup_steps=3",
    "ema_decay=0.9",
    "checkpoint_every_n_steps=2",
)
LONGEST = 300.0
"""Seconds after which a process that has not ended is taken to hang."""


@dataclass(slots=True)
class Tally:
    """What was seen."""

    kills: int = 0
    runs: int = 0
    unreadable: int = 0
    lost: int = 0
    unequal: int = 0
    failed: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong, and enough was tried."""
        return self.runs > 0 and not (self.unreadable or self.lost or self.unequal or self.failed)


def acknowledged(log: Path) -> int:
    """The step of the last line that says ``last.ckpt`` was saved; 0 without one."""
    found = re.findall(r"saved \S*last\.ckpt at step (\d+)", log.read_text(errors="replace"))
    return int(found[-1]) if found else 0


def equal(found: Any, expected: Any) -> bool:
    """Whether two contents of checkpoints are equal, to the last bit of every tensor."""
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return bool(found == expected)


def same_end(folder: Path, whole: Path) -> bool:
    """Whether two finished runs have the same weights, average, momentum, schedule, table and metrics."""
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (checkpoint.read(place / name) for place in (folder, whole))
        if not all(equal(a[key], b[key]) for key in keys):
            return False
    return all((folder / n).read_bytes() == (whole / n).read_bytes() for n in ("metrics.csv", "metrics.json"))


def check_after_kill(folder: Path, log: Path, tally: Tally) -> None:
    """Count a checkpoint that does not load, and one that is older than what was acknowledged."""
    step, last = acknowledged(log), folder / "last.ckpt"
    if not last.exists():
        tally.lost += step > 0
        return
    try:
        found = checkpoint.read(last)["global_step"]
    except CheckpointError as error:
        print(f"  unreadable: {error}")
        tally.unreadable += 1
        return
    if found < step:
        print(f"  lost: {last} is of step {found}, step {step} was acknowledged")
        tally.lost += 1


def one_run(folder: Path, root: str, whole: Path, longest: float, kills: int, random: Any, tally: Tally) -> None:
    """Kill a run again and again until it ends by itself or enough kills were done; then let it end, and compare."""
    log = folder.with_suffix(".log")
    while True:
        last = folder / "last.ckpt"
        workers = int(random.integers(0, 2))
        start = [f"resume={last}"] if last.exists() else [f"data.root={root}", *SETTINGS, f"run_dir={folder}"]
        pid = forks.start(train.main, [*start, f"loader.workers={workers}"], log)
        enough = tally.kills == kills
        code = forks.wait(pid, LONGEST if enough else float(random.uniform(0, longest)))
        if code is None:
            forks.kill(pid)
            if enough:
                print(f"  no end after {LONGEST} s")
                tally.failed += 1
                return
            tally.kills += 1
            check_after_kill(folder, log, tally)
        elif code:
            print(f"  exit code {code}:", *log.read_text(errors="replace").splitlines()[-12:], sep="\n  ")
            tally.failed += 1
            return
        else:
            break
    tally.runs += 1
    leftovers = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    if leftovers or not same_end(folder, whole):
        print(f"  {folder} differs from the undisturbed run; left behind: {leftovers}")
        tally.unequal += 1


def main() -> int:
    """Print the tally; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", nargs="?", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", default="datasets/scenes")
    arguments = parser.parse_args()
    random, tally = np.random.default_rng(arguments.seed), Tally()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        whole, began = place / "whole", time.monotonic()
        line = [f"data.root={arguments.root}", *SETTINGS, "loader.workers=0", f"run_dir={whole}"]
        code = forks.wait(forks.start(train.main, line, place / "whole.log"), LONGEST)
        if code != 0:
            print((place / "whole.log").read_text())
            return 1
        longest = 0.4 * (time.monotonic() - began)
        print(f"the undisturbed run took {longest / 0.4:.1f} s; kills come 0 to {longest:.1f} s after a start")
        while tally.kills < arguments.kills and not tally.failed:
            one_run(place / f"run_{tally.runs}", arguments.root, whole, longest, arguments.kills, random, tally)
    print("\nkills  runs to the end  unreadable  acknowledged lost  ends not equal  failed")
    counts = (tally.runs, 15), (tally.unreadable, 10), (tally.lost, 17), (tally.unequal, 14), (tally.failed, 6)
    print(f"{tally.kills:5}", *(f"{count:{width}}" for count, width in counts), sep="  ")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
