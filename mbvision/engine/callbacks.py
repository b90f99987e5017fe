"""What Lightning has not: checkpoints that keep the run folder's promise."""

import logging
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mbvision import stopping
from mbvision.checkpoint import copy, read, weights_digest, write
from mbvision.data.sampling import DrawDataset
from mbvision.engine.data_module import ResumableLoader, VisionData
from mbvision.engine.guard import agreed, agreed_stop, all_finite
from mbvision.engine.module import VisionModule
from mbvision.engine.run_log import RunLog
from mbvision.errors import ConfigError, DataError, TrainingError

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints through our own reader and writer: whole or not at all, and weights only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the old file, then replace it; a digest of the weights goes in."""
        write(Path(path), {**checkpoint, "sha256": weights_digest(checkpoint["state_dict"])})

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read with ``weights_only=True``, whatever the caller asks for."""
        return read(Path(path))


class RunCheckpoints(Checkpoint):
    """Keeps ``last.ckpt`` (every so many steps, after validation and at the end) and ``best.ckpt`` in the run folder.

    Lightning's ModelCheckpoint leaves out the last step where it saves by steps, renames files in a folder used twice,
    and writes nothing in a debug run. A line in the log tells of each checkpoint when it is on the disk. After a signal
    that asks to stop, the step is ended, its state saved, and `Stopped` raised on every process.
    """

    def __init__(self, *, folder: Path, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ConfigError(f"checkpoint_every_n_steps={every_n_steps}: must be at least 1")
        self.folder, self.every_n_steps = folder, every_n_steps
        self.best: float | None = None
        self.scored_step = -1
        self._step_before = 0
        self._stop_signal = 0

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

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue the epoch in progress, in the batches of this run."""
        # Lightning sets datamodule on the trainer outside its class, where mypy does not look.
        if trainer.state.fn == "fit" and isinstance(data := trainer.datamodule, VisionData):  # type: ignore[attr-defined]
            data.continue_epoch(checkpoint)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove what a killed run left half written, and see that there is room for two checkpoints."""
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.best_path.exists():
            self.best = None  # a score whose checkpoint is not here
        for leftover in self.folder.rglob(".*.partial"):
            leftover.unlink(missing_ok=True)
        weights = sum(p.numel() * p.element_size() for p in pl_module.parameters())
        needed = 2 * 4 * weights  # weights, their average, and two numbers a weight for the optimizer
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise TrainingError(
                f"{self.folder}: {free / 1e6:.0f} MB are free, two checkpoints need {needed / 1e6:.0f} MB: set run_dir="
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on the step is ended first. Rows of steps that a killed run did, but did not save, are dropped."""
        stopping.defer()
        for log in trainer.loggers:
            if isinstance(log, RunLog):
                log.forget_from(trainer.global_step)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the step, to see whether this batch ends one."""
        self._step_before = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due; never in the middle of accumulated gradients.

        Not before a validation either: it saves itself, and a run that is resumed from here would leave it out.
        """
        assert isinstance(pl_module, VisionModule)
        step = trainer.global_step
        last_of_epoch = batch_idx + 1 >= trainer.num_training_batches
        if step == self._step_before or (last_of_epoch and self._validates(trainer)):
            return
        self._stop_signal = pl_module.guard.stop_signal
        if self.ends_unscored(trainer, batch_idx) or self._stop_signal or step % self.every_n_steps == 0:
            self._log_losses(trainer)
            self._save(trainer, self.last_path)
        self._stop_if_asked(trainer)

    @staticmethod
    def ends_unscored(trainer: L.Trainer, batch_idx: int) -> bool:
        """Whether training ends with this batch, and no validation follows it."""
        last_of_epoch = batch_idx + 1 >= trainer.num_training_batches
        ends = last_of_epoch and trainer.current_epoch + 1 == trainer.max_epochs
        validated = last_of_epoch and RunCheckpoints._validates(trainer)
        return (ends or trainer.global_step == trainer.max_steps) and not validated

    @staticmethod
    def _validates(trainer: L.Trainer) -> bool:
        every = trainer.check_val_every_n_epoch
        return trainer.enable_validation and every is not None and (trainer.current_epoch + 1) % every == 0

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Break a validation within training off, on every process at the same batch: none may wait for another."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or batch_idx >= shared_batches(trainer):
            return
        self._stop_signal = agreed_stop(pl_module.device)
        if self._stop_signal:
            raise StopIteration

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Of a validation that was broken off, save the state before it: it is done anew by the run that goes on."""
        if not self._stop_signal:
            return
        self._save_before_validation(trainer)
        self._stop_if_asked(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The same where a picture cannot be read; not of several processes, of which one alone may be here."""
        if broke_validation(trainer, exception) and trainer.world_size == 1:
            self._save_before_validation(trainer)

    def _save_before_validation(self, trainer: L.Trainer) -> None:
        progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        progress.reset()
        progress.increment_ready()  # in its first batch, where Lightning takes a validation up
        progress.increment_started()
        self._save(trainer, self.last_path)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, and keep the best; the best first, so that a run killed in between scores these weights again."""
        assert isinstance(pl_module, VisionModule)
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.scored_step = trainer.global_step
        score = pl_module.score
        if self.best is not None and score < self.best:
            self._save(trainer, self.last_path)
            return
        self.best = score
        self._save(trainer, self.best_path, self.last_path)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """There is always a best checkpoint."""
        if trainer.is_global_zero:
            self.complete()

    def complete(self) -> None:
        """Make the last checkpoint the best one where nothing was validated."""
        if not self.best_path.exists() and self.last_path.exists():
            copy(self.last_path, self.best_path)

    def record(self, best: float, *paths: Path) -> None:
        """Write a best score that was found after the fit into checkpoints: the run that goes on compares with it."""
        self.best = best
        for path in paths:
            content = read(path)
            content["callbacks"][self.state_key] = self.state_dict()
            write(path, content)

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        if self._stop_signal:
            state = f"after step {trainer.global_step}; resume={self.last_path} goes on"
            raise stopping.Stopped(self._stop_signal, state)

    @staticmethod
    def _log_losses(trainer: L.Trainer) -> None:
        """The row of this step, which Lightning adds after the callbacks only: the run that goes on would lack it."""
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # set by its loggers
            losses = {key: float(value) for key, value in trainer.logged_metrics.items() if key.startswith("train/")}
            for log in trainer.loggers:
                if isinstance(log, RunLog):
                    log.log_metrics({"epoch": trainer.current_epoch, **losses}, step=trainer.global_step - 1)

    def _save(self, trainer: L.Trainer, path: Path, *copies: Path) -> None:
        if not agreed(all_finite(trainer.lightning_module.state_dict().values())):
            raise TrainingError(
                f"the weights are not finite after step {trainer.global_step} and are not saved: lower optimizer.lr and"
                + (f" go on with resume={self.last_path}" if self.last_path.exists() else " start again")
            )
        for log in trainer.loggers:
            if isinstance(log, RunLog):
                log.flush()  # or the run that goes on from here would have a gap in its table
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            for other in copies:
                copy(path, other)
            for saved in (path, *copies):
                logger.info("saved %s at step %d", saved, trainer.global_step)


def broke_validation(trainer: L.Trainer, exception: BaseException) -> bool:
    """Whether a picture or a label that cannot be read ended a validation within training."""
    within = trainer.state.fn == "fit" and trainer.validating and not trainer.sanity_checking
    return within and isinstance(exception, DataError)


def shared_batches(trainer: L.Trainer) -> int:
    """The validation batches that every process has; some may have one more."""
    loader = trainer.val_dataloaders
    assert isinstance(loader, ResumableLoader) and isinstance(loader.dataset, DrawDataset) and loader.batch_size
    fewest = -(-max(len(loader.dataset) // trainer.world_size, 1) // loader.batch_size)
    limit = trainer.limit_val_batches
    return min(fewest, limit) if isinstance(limit, int) else int(fewest * limit)
