"""Runs cases in processes of their own, so that a crash or a hang is a row of the table and not its end.

Each is forked from this process, which has everything imported already: a case costs milliseconds.
"""

import json
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults.case import BAD, GOOD, Case, Row, judge

SECONDS = 10.0
GROWTH_BYTES = 1024**3
"""What a case may take: contract, section 1."""

_LAST_RESORT_BYTES = 5 * 1024**3  # of address space, so that a bomb ends the case and not the machine


def run_case(case: Case) -> Row:
    """What came of one case."""
    folder = Path(tempfile.mkdtemp(prefix="fault-"))
    try:
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: of threads, none of which works now
            child = os.fork()
        if child == 0:
            os.close(read)
            _in_child(case, folder, write)
        os.close(write)
        return _wait(child, read)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_child(case: Case, folder: Path, write: int) -> None:
    """Never returns."""
    try:
        os.setpgid(0, 0)
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # decoders write there what nobody asked for
            os.dup2(silence, descriptor)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _status()["VmSize"] + _LAST_RESORT_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        before = _status()
        row = judge(case, folder)
        after = _status()
        growth = after["VmHWM"] - before["VmRSS"] - max(0, after["RssFile"] - before["RssFile"])
        if growth > GROWTH_BYTES:
            row = Row("crash", f"took {growth / 1024**2:.0f} MiB; {row.said}")
    except BaseException:  # a fault of the case itself
        row = Row("crash", traceback.format_exc()[-2000:])
    with os.fdopen(write, "w", errors="backslashreplace") as pipe:
        json.dump([row.column, row.said[:4000]], pipe)
    os._exit(0)


def _status() -> dict[str, int]:
    """Bytes of memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if line.endswith("kB"))
    return {key: int(value.split()[0]) * 1024 for key, value in pairs}


def _wait(child: int, read: int) -> Row:
    """Read until the child has ended, or its time is over."""
    text, start = b"", time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(read, selectors.EVENT_READ)
        while not (over := _is_over(child, start)):
            if not selector.select(0.2):
                continue
            block = os.read(read, 65536)
            if not block:
                break
            text += block
    os.close(read)
    if over:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if over:
        return Row("hang", f"not over after {SECONDS:.0f} s")
    if os.WIFSIGNALED(status) or not text:
        return Row("crash", f"ended by status {status}")
    column, said = json.loads(text)
    return Row(column, said)


def _is_over(child: int, start: float) -> bool:
    """Whether a case took too long: in time of the processor, or waiting for something that does not come.

    A case that computes may take longer on a machine that is busy otherwise.
    """
    seconds = time.monotonic() - start
    if seconds < SECONDS:
        return False
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    computed = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    waits = fields[0] == "S" and computed < seconds / 10
    return computed > SECONDS or waits or seconds > 30 * SECONDS


def run_cases(cases: Iterable[Case]) -> list[tuple[Case, Row]]:
    """All cases, one after the other."""
    return [(case, run_case(case)) for case in cases]


def table(results: Sequence[tuple[Case, Row]]) -> str:
    """A line for each kind: how many cases, and how they ended."""
    kinds = list(dict.fromkeys(case.kind for case, _ in results))
    heads = ["loads", "skipped by name", "clear errors", *BAD]
    lines = ["".join(["kind".ljust(14), "cases".rjust(6), *(head.rjust(len(head) + 2) for head in heads)])]
    for kind in [*kinds, "all"]:
        columns = [row.column for case, row in results if kind in (case.kind, "all")]
        counts = [columns.count(column) for column in (*GOOD, *BAD)]
        cells = [str(count).rjust(len(head) + 2) for count, head in zip(counts, heads, strict=True)]
        lines.append("".join([kind.ljust(14), str(len(columns)).rjust(6), *cells]))
    return "\n".join(lines)


def failures(results: Sequence[tuple[Case, Row]]) -> list[str]:
    """A line for each case that ended as it must not."""
    return [f"{case.kind}: {case.name}: {row.column}: {row.said}" for case, row in results if row.column in BAD]
