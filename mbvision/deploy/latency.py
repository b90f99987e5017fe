"""How long things take when they take turns: what a busy machine does to one, it does to all.

CPU time is that of all threads of the process, so other programs hardly move it; wall time they do.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Step = tuple[str, Callable[[Any], Any]]
WHOLE = "whole"
"""The name of all steps together."""


class Spent(NamedTuple):
    """Milliseconds of each round, in order."""

    cpu_ms: list[float]
    wall_ms: list[float]

    def summary(self) -> dict[str, float]:
        """Median and 95th percentile of both."""
        return {
            f"{kind}_ms_{name}": float(np.percentile(values, share))
            for kind, values in (("cpu", self.cpu_ms), ("wall", self.wall_ms))
            for name, share in (("median", 50), ("p95", 95))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Something to time: the first of its named ``steps`` gets ``given``, each other one what the one before gave.

    A run does ``units`` of work, such as pictures; times are of one.
    """

    name: str
    steps: Sequence[Step]
    given: Any = None
    units: int = 1

    def run(self, spent: Mapping[str, Spent] | None) -> None:
        """All steps once; their times are added to ``spent`` where it is given."""
        value = self.given
        for name, step in self.steps:
            wall, cpu = time.perf_counter(), time.process_time()
            value = step(value)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if spent is not None:
                spent[name].cpu_ms.append(1000 * cpu / self.units)
                spent[name].wall_ms.append(1000 * wall / self.units)


def interleaved(
    cases: Sequence[Case], *, rounds: int, tick: Callable[[], object] = lambda: None
) -> dict[str, dict[str, Spent]]:
    """The times of every case by its steps and as a `WHOLE`: each round runs all of them once.

    The order is reversed every other round, so that no case always follows the same one. A round that is not counted
    comes first, to warm up. ``tick`` is called after each round that is.
    """
    spent = {case.name: {name: Spent([], []) for name, _ in case.steps} for case in cases}
    for turn in range(-1, rounds):
        for case in cases if turn % 2 == 0 else reversed(cases):
            case.run(spent[case.name] if turn >= 0 else None)
        if turn >= 0:
            tick()
    for steps in spent.values():
        kinds = ([one.cpu_ms for one in steps.values()], [one.wall_ms for one in steps.values()])
        steps[WHOLE] = Spent(*([sum(column) for column in zip(*rows, strict=True)] for rows in kinds))
    return spent
