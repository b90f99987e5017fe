"""How much memory a runtime takes: each in a process of its own, which this module is too."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbvision.commands.contestants import Contestant

RUNS = 3


def peak_megabytes(contestant: "Contestant", *, batch: int, threads: int) -> float | None:
    """What a process with torch and mbvision grows by at most, from opening the model until it has answered.

    None where the system does not tell it, or the process fails.
    """
    fields = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(contestant).items()}
    task = json.dumps({"contestant": fields, "batch": batch, "threads": threads})
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-W", "ignore", "-m", "mbvision.commands.peak_memory", task]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=surroundings, check=False)
    try:
        return float(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, TypeError, ValueError):  # TypeError: null
        return None


def _measure(task: Mapping[str, Any]) -> float | None:
    from mbvision.commands.contestants import Contestant, pictures

    fields = task["contestant"]
    paths = {name: Path(fields[name]) for name in ("checkpoint", "file") if fields[name] is not None}
    contestant = Contestant(**{**fields, **paths, "input_size": tuple(fields["input_size"])})
    given = pictures(task["batch"])
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far is forgotten: proc(5)
    except OSError:
        return None
    before = _status("VmRSS")
    steps = contestant.steps(task["threads"])
    for _ in range(RUNS):
        value: Any = given
        for _, step in steps:
            value = step(value)
    return (_status("VmHWM") - before) / 1e3


def _status(name: str) -> float:
    """A line of /proc/self/status in kB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(name)))


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
