"""The run's history as a table (metrics.csv) and a picture (curves.png); goes on where a resumed run left off."""

import csv
import time
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mbvision.draw import plot_curves
from mbvision.errors import ConfigError
from mbvision.writing import replacing

SHARE_OF_TIME = 0.05
"""The table is written anew each time, but no more than this share of the run goes into it."""


class RunLog(Logger):
    """One row for each logged step. Lightning's CSVLogger deletes the table of a run that is resumed."""

    def __init__(self, *, folder: Path, resume: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.rows: dict[int, dict[str, float]] = {}
        self._next_save = 0.0
        if resume and self.path.exists():
            try:
                with self.path.open(encoding="utf-8", newline="") as file:
                    for row in csv.DictReader(file):
                        step = int(row.pop("step"))
                        self.rows[step] = {key: float(value) for key, value in row.items() if value}
            except (KeyError, TypeError, ValueError, csv.Error) as error:
                raise ConfigError(f"{self.path} is not the table of a run: remove it to go on without") from error

    @property
    def path(self) -> Path:
        """The table."""
        return self.folder / "metrics.csv"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """Runs have no versions: each has its own folder."""
        return ""

    def forget_from(self, step: int) -> None:
        """Drop the rows of this step and later ones: the run goes on from a checkpoint before them."""
        self.rows = {known: row for known, row in self.rows.items() if known < step}

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add to the row of this step."""
        self.rows.setdefault(int(step or 0), {}).update({key: float(value) for key, value in metrics.items()})

    @rank_zero_only
    def save(self) -> None:
        """Write the table, unless it was just written."""
        started = time.monotonic()
        if started >= self._next_save:
            self.flush()
            ended = time.monotonic()
            self._next_save = ended + (ended - started) / SHARE_OF_TIME

    @rank_zero_only
    def flush(self) -> None:
        """Write the table now."""
        names = sorted({name for row in self.rows.values() for name in row} - {"epoch"})
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["step", "epoch", *names])
            writer.writeheader()
            for step, row in sorted(self.rows.items()):
                writer.writerow({"step": step, **row})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the table and draw the curves; what ended a run is told first, not that the disk is full."""
        if status == "failed":
            with suppress(OSError):
                self.flush()
            return
        self.flush()
        names = sorted({name for row in self.rows.values() for name in row if "/" in name})
        history = {
            name: [(step, row[name]) for step, row in sorted(self.rows.items()) if name in row] for name in names
        }
        if history:
            plot_curves(history, self.folder / "curves.png")
