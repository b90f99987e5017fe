"""How every benchmark here measures: cases turn about on one thread, medians, one table, one JSON file.

CPU time is that of the whole process, so other programs on the machine hardly move it; wall time they do.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import torch
import torchvision

from mbvision.deploy.fastest import processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Something to time: ``run`` gets what ``prepare``, which is not timed, returned."""

    name: str
    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians of one case in milliseconds; ratios above 1 are faster than the first case of its table."""

    name: str
    cpu_ms: float
    wall_ms: float
    cpu_ratio: float
    wall_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One comparison; ``checks`` say what was found equal before anything was timed, or what differs and why."""

    title: str
    rows: Sequence[Row]
    rounds: int
    checks: Sequence[str] = field(default_factory=tuple)


def one_thread() -> None:
    """A single thread for torch and OpenCV."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def measure(cases: Sequence[Case], *, rounds: int, divide: int = 1, warm_up: bool = True) -> list[Row]:
    """Run all cases once without timing them, then in turn, ``rounds`` times; each run does ``divide`` units of work.

    The order is reversed every other round, so that no case always follows the same one. Without ``warm_up`` the first
    run counts: for what takes minutes.
    """
    cpu: dict[str, list[float]] = {case.name: [] for case in cases}
    wall: dict[str, list[float]] = {case.name: [] for case in cases}
    for turn in range(-1 if warm_up else 0, rounds):
        for case in cases if turn % 2 == 0 else reversed(cases):
            prepared = case.prepare()
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            case.run(prepared)
            cpu_s, wall_s = time.process_time() - cpu_start, time.perf_counter() - wall_start
            if turn >= 0:
                cpu[case.name].append(1000 * cpu_s / divide)
                wall[case.name].append(1000 * wall_s / divide)
    return _rows(cpu, wall)


def measure_apart(
    sides: Mapping[str, Callable[[], Mapping[str, Callable[[], object]]]], *, rounds: int, turn_s: float = 0.4
) -> dict[str, list[Row]]:
    """As `measure`, with each side in a process of its own, as its users run it: none inherits another's memory.

    A side makes its functions there, once; returned are the rows for each name of a function. In its turn a side runs
    one for ``turn_s``, as a camera's loop does, after a run that is not timed: what lies in the caches is its own then.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes = {}
        for name, make in sides.items():
            pipes[name], end = context.Pipe()
            process = context.Process(target=_serve, args=(make, end, turn_s), daemon=True)
            process.start()
            end.close()
            stack.callback(process.terminate)
        able = {name: pipe.recv() for name, pipe in pipes.items()}
        found = {}
        for part in dict.fromkeys(part for parts in able.values() for part in parts):
            own = {name: pipe for name, pipe in pipes.items() if part in able[name]}
            cpu: dict[str, list[float]] = {name: [] for name in own}
            wall: dict[str, list[float]] = {name: [] for name in own}
            for turn in range(rounds):
                for name in own if turn % 2 == 0 else reversed(own):
                    own[name].send(part)
                    cpu_s, wall_s = own[name].recv()
                    cpu[name].append(1000 * cpu_s)
                    wall[name].append(1000 * wall_s)
            found[part] = _rows(cpu, wall)
    return found


def _serve(make: Callable[[], Mapping[str, Callable[[], object]]], pipe: Connection, turn_s: float) -> None:
    one_thread()
    with torch.inference_mode():
        functions = make()
        for function in functions.values():
            function()
        pipe.send(list(functions))
        while True:
            function = functions[pipe.recv()]
            function()
            runs, wall_s, wall_start, cpu_start = 0, 0.0, time.perf_counter(), time.process_time()
            while not runs or wall_s < turn_s:
                function()
                runs, wall_s = runs + 1, time.perf_counter() - wall_start
            pipe.send(((time.process_time() - cpu_start) / runs, wall_s / runs))


def _rows(cpu: Mapping[str, Sequence[float]], wall: Mapping[str, Sequence[float]]) -> list[Row]:
    medians = {name: (statistics.median(cpu[name]), statistics.median(wall[name])) for name in cpu}
    base_cpu, base_wall = next(iter(medians.values()))
    return [
        Row(name=name, cpu_ms=c, wall_ms=w, cpu_ratio=base_cpu / c, wall_ratio=base_wall / w)
        for name, (c, w) in medians.items()
    ]


def parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The arguments that all benchmarks have."""
    made = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    made.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, its times mean nothing")
    made.add_argument("--rounds", type=int, default=rounds, help="timed runs of each case (default %(default)s)")
    made.add_argument("--output", type=Path, metavar="FILE.json", help="write the tables there too")
    return made


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cpu": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def report(tables: Sequence[Table], output: Path | None) -> None:
    """Print the tables below a line about the machine; write them as JSON where asked."""
    about = machine()
    print(
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} thread, load {about['load']}, "
        f"torch {about['torch']}, torchvision {about['torchvision']}, commit {about['commit']}"
    )
    print(about["command"])
    for table in tables:
        print(f"\n{table.title}; median of {table.rounds}")
        width = max(len(row.name) for row in table.rows)
        print(f"  {'':{width}} {'CPU ms':>10} {'wall ms':>10} {'CPU ratio':>10} {'wall ratio':>10}")
        for row in table.rows:
            ratios = f"{row.cpu_ratio:9.2f}x {row.wall_ratio:9.2f}x"
            print(f"  {row.name:{width}} {row.cpu_ms:10.2f} {row.wall_ms:10.2f} {ratios}")
        for check in table.checks:
            print(f"  {check}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": about, "tables": [asdict(table) for table in tables]}
        output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check(holds: bool, claim: str) -> str:
    """The claim, to be printed; a benchmark of two sides that differ stops here."""
    if not holds:
        raise SystemExit(f"the two sides do not compute the same: it does not hold that {claim}")
    return claim
