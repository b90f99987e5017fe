"""What Lightning has not: checkpoints that keep the run folder's promise, an average that suits short runs."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from mbvision.checkpoint import read, write
from mbvision.engine.module import VisionModule
from mbvision.errors import TrainingError

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints through our own reader and writer: whole or not at all, and weights only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the old file, then replace it."""
        write(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read with ``weights_only=True``, whatever the caller asks for."""
        return read(Path(path))


class RunCheckpoints(Checkpoint):
    """Keeps ``last.ckpt`` (every so many steps, after every epoch and validation) and ``best.ckpt`` in the run folder.

    Lightning's ModelCheckpoint leaves out the last step where it saves by steps, renames files in a folder used twice,
    and writes nothing in a debug run.
    """

    def __init__(self, *, folder: Path, task: str, metric: str, every_n_steps: int) -> None:
        self.folder, self.task, self.metric, self.every_n_steps = folder, task, metric, every_n_steps
        self.best: float | None = None
        self._saved_step = -1

    @property
    def last_path(self) -> Path:
        """The newest state, for ``resume=``."""
        return self.folder / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """The state with the best validation score so far."""
        return self.folder / "best.ckpt"

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score."""
        self.best = state_dict["best"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due; never in the middle of accumulated gradients."""
        step = trainer.global_step
        ends = batch_idx + 1 >= trainer.num_training_batches or step == trainer.max_steps
        due = step % self.every_n_steps == 0 and step != self._saved_step
        if step > 0 and (ends or due):
            self._save_last(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, and keep the best."""
        assert isinstance(pl_module, VisionModule)
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        score = float(pl_module.metrics[self.task][self.metric])
        better = self.best is None or score > self.best
        self.best = score if better else self.best
        self._save_last(trainer)
        if better and trainer.is_global_zero:
            _copy(self.last_path, self.best_path)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """There is always a best checkpoint: the last one where nothing was validated."""
        if trainer.is_global_zero and not self.best_path.exists() and self.last_path.exists():
            _copy(self.last_path, self.best_path)

    def _save_last(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.last_path)
        self._saved_step = trainer.global_step
        logger.debug("saved %s at step %d", self.last_path, trainer.global_step)


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that the target is never half written."""
    temporary = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)


def _average(decay: float) -> Any:
    """The update of a moving average whose decay grows from 0.1 to ``decay``: (1 + n) / (10 + n) after n updates."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Tensor | int) -> None:
        n = float(count)
        share = 1 - min(decay, (1 + n) / (10 + n))
        floating = [(a, v) for a, v in zip(averages, values, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floating], [v for _, v in floating], share)
        for average, value in zip(averages, values, strict=True):
            if not average.is_floating_point():
                average.copy_(value)

    return update


class WarmAverage(WeightAveraging):
    """Lightning's weight averaging over parameters and running statistics, with a decay that warms up.

    A constant decay leaves the random start in the average for several times 1 / (1 - decay) steps.
    """

    def __init__(self, *, decay: float) -> None:
        if not 0 <= decay < 1:
            raise TrainingError(f"ema_decay={decay}: must be at least 0 and under 1, or null for no average")
        super().__init__(use_buffers=True, multi_avg_fn=_average(decay))
