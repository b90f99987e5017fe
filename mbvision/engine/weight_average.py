"""A moving average of the weights that suits short runs."""

from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from mbvision.engine.callbacks import broke_validation
from mbvision.errors import TrainingError


class WarmAverage(WeightAveraging):
    """Lightning's weight averaging over parameters and running statistics, with a decay that warms up.

    A constant decay leaves the random start in the average for several times 1 / (1 - decay) steps: that of one step
    is (1 + n) / (10 + n) after n steps, up to ``decay``. The average starts from the weights after the first step and
    takes in those of every ``every_n_steps``-th step and of the last step of every epoch and of the run, with the decay
    of the steps in between.
    """

    def __init__(self, *, decay: float, every_n_steps: int = 1) -> None:
        if not 0 <= decay < 1:
            raise TrainingError(f"ema_decay={decay}: must be at least 0 and under 1, or null for no average")
        if every_n_steps < 1:
            raise TrainingError(f"ema_every_n_steps={every_n_steps}: must be at least 1")
        self.decay, self.every_n_steps = decay, every_n_steps
        self._steps = 1
        self._last = False
        super().__init__(use_buffers=True, multi_avg_fn=self._update)

    @torch.no_grad()
    def _update(self, averages: list[Tensor], values: list[Tensor], count: Tensor | int) -> None:
        # Tensors come grouped by type: weights and running statistics, or the integer counters of batch norm.
        if not averages[0].is_floating_point():
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
            return
        n = float(self._latest_update_step)
        torch._foreach_lerp_(averages, values, 1 - min(self.decay, (1 + n) / (10 + n)) ** self._steps)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After the first step, after every so many, and after the last one; ``step_idx`` counts from 0."""
        first = self._latest_update_step == 0
        return step_idx is not None and (first or self._last or (step_idx + 1) % self.every_n_steps == 0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note what the update depends on, then update."""
        self._steps = trainer.global_step - self._latest_update_step
        self._last = batch_idx + 1 >= trainer.num_training_batches or trainer.global_step == trainer.max_steps
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the network its own weights back, which are saved then."""
        if broke_validation(trainer, exception):
            self.on_validation_epoch_end(trainer, pl_module)
