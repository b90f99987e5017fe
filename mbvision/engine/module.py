"""Training and validation steps of any network with any tasks."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import Metric

from mbvision.engine.optim import Schedule, parameter_groups
from mbvision.errors import TrainingError
from mbvision.network import Network
from mbvision.structures import Batch
from mbvision.tasks.base import Task

logger = logging.getLogger(__name__)


class VisionModule(L.LightningModule):
    """Sums the tasks' losses, and lets each task's evaluator score its predictions.

    ``network_config`` is plain data that rebuilds the network (see `mbvision.checkpoint`); it is written into every
    checkpoint. ``annotations`` maps a task's name to what its evaluator scores against.
    """

    def __init__(
        self,
        *,
        network: Network,
        tasks: Mapping[str, Task[Any, Any]],
        optimizer: Callable[..., Optimizer] | None = None,
        schedule: Schedule | None = None,
        annotations: Mapping[str, Any],
        network_config: dict[str, Any],
        max_nan_steps: int = 3,
        pictures: int = 8,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.tasks = dict(tasks)
        self.optimizer, self.schedule = optimizer, schedule
        self.network_config = network_config
        self.max_nan_steps, self.pictures = max_nan_steps, pictures
        self.evaluators: dict[str, Metric] = {
            name: task.evaluator(annotations[name]) for name, task in self.tasks.items()
        }
        self.metrics: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, list[Any]] = {}
        self._nan_steps = 0
        self._random_state: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Raw outputs by head."""
        return self.network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """The weighted sum of all losses; a loss that is not finite skips the step, ``max_nan_steps`` times in a row."""
        images = batch.float_images()
        outputs = self.network(images)
        size = (images.shape[2], images.shape[3])
        total = images.new_zeros(())
        for name, task in self.tasks.items():
            losses = task.loss(outputs[name], batch.targets, size)
            for kind, loss in losses.items():
                self.log(f"train/{name}/{kind}", loss.detach(), prog_bar=True, batch_size=len(images))
            total = total + task.weight * torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            self._skip_step(batch)
            return None
        self._nan_steps = 0
        return total

    def _skip_step(self, batch: Batch) -> None:
        self._nan_steps += 1
        ids = [target.image_id for target in batch.targets]
        logger.warning("the loss is not finite at step %d, which is skipped; images %s", self.global_step, ids)
        if self._nan_steps > self.max_nan_steps:
            raise TrainingError(
                f"the loss was not finite {self._nan_steps} times in a row (max_nan_steps={self.max_nan_steps}), last for"
                f" images {ids}: lower optimizer.lr, or check these annotations"
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """After a restart, take up the random numbers where they were."""
        if self._random_state is not None:
            torch.set_rng_state(self._random_state["torch"])
            if torch.cuda.is_available() and self._random_state["cuda"]:
                torch.cuda.set_rng_state_all(self._random_state["cuda"])
            self._random_state = None

    def on_validation_epoch_start(self) -> None:
        """Start counting anew, with the same running statistics on every process."""
        for evaluator in self.evaluators.values():
            evaluator.reset()
        self.kept = {name: [] for name in self.tasks}
        if dist.is_available() and dist.is_initialized():
            for buffer in self.network.buffers():
                dist.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict, and hand the predictions to the evaluators."""
        images = batch.float_images()
        outputs = self.network(images)
        size = (images.shape[2], images.shape[3])
        assert self.trainer.val_dataloaders is not None
        first = batch_idx * self.trainer.val_dataloaders.batch_size
        for name, task in self.tasks.items():
            predictions = task.predict(outputs[name], size)
            self.evaluators[name].update(predictions, batch.targets)
            places = [(first + i) * self.trainer.world_size + self.trainer.global_rank for i in range(len(predictions))]
            room = self.pictures - len(self.kept[name])
            self.kept[name] += list(zip(places, predictions, batch.targets, strict=True))[:room]

    def on_validation_epoch_end(self) -> None:
        """Every process computes the same numbers over the whole set."""
        for name, evaluator in self.evaluators.items():
            self.metrics[name] = evaluator.compute()
            for key, value in self.metrics[name].items():
                if isinstance(value, float):
                    bar = key == self.tasks[name].metric
                    self.log(f"val/{name}/{key}", value, prog_bar=bar, rank_zero_only=not bar, sync_dist=False)

    def configure_optimizers(self) -> Any:
        """No decay on norms and biases; the schedule moves every step."""
        assert self.optimizer is not None
        optimizer = self.optimizer(parameter_groups(self.network))
        if self.schedule is None:
            return optimizer
        scheduler = self.schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the network, and the state of the random numbers."""
        checkpoint["mbvision"] = self.network_config
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        checkpoint["random"] = {"torch": torch.get_rng_state(), "cuda": cuda}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random state until the first batch: restoring the loaders draws numbers."""
        self._random_state = checkpoint.get("random")
