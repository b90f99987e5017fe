"""Training and validation steps of any network with any tasks."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.metadata import version
from platform import python_version
from typing import Any, NamedTuple

import lightning.pytorch as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from mbvision.engine import random_state
from mbvision.engine.guard import StepGuard
from mbvision.engine.optim import Schedule, apply_settings, parameter_groups
from mbvision.engine.rounding import Rounding
from mbvision.engine.single_image import norms_of_single_values
from mbvision.engine.teacher import Teacher
from mbvision.errors import CheckpointError
from mbvision.structures import Batch, Target
from mbvision.tasks.base import Task


class KeptSample(NamedTuple):
    """A validated picture to draw: its place in the data set, its target, and what each task says of it."""

    place: int
    target: Target
    predictions: dict[str, Any]


class VisionModule(L.LightningModule):
    """Sums the tasks' losses, and lets each task's evaluator score its predictions.

    ``network_config`` is plain data that rebuilds the network (see `mbvision.checkpoint`); it is written into every
    checkpoint. ``annotations`` maps a task's name to what its evaluator scores against. With a ``teacher`` the tasks
    learn from its outputs as well. With ``rounding``, of that network, training runs through it; validation does not.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        tasks: Mapping[str, Task[Any, Any]],
        optimizer: Callable[..., Optimizer] | None = None,
        schedule: Schedule | None = None,
        annotations: Mapping[str, Any],
        network_config: dict[str, Any],
        teacher: Teacher | None = None,
        max_nan_steps: int = 3,
        pictures: int = 8,
        rounding: Rounding | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.tasks = dict(tasks)
        self.optimizer, self.schedule = optimizer, schedule
        self.teacher, self.rounding = teacher, rounding
        self.network_config = network_config
        self.guard = StepGuard(self.network, max_bad_steps=max_nan_steps)
        self.pictures = pictures
        self.evaluators: dict[str, Metric] = {
            name: task.evaluator(annotations[name]) for name, task in self.tasks.items()
        }
        self.metrics: dict[str, dict[str, Any]] = {}
        self.kept: list[KeptSample] = []
        self._random_state: dict[str, Any] | None = None
        self._settings: list[dict[str, Any]] = []

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Raw outputs by head."""
        return self.network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted sum of all losses."""
        images = batch.float_images()
        with norms_of_single_values(self.network) if len(images) == 1 else nullcontext():
            outputs = (self.rounding or self.network)(images)
        size = (images.shape[2], images.shape[3])
        total = images.new_zeros(())
        for name, task in self.tasks.items():
            losses = task.loss(outputs[name], batch.targets, size)
            for kind, loss in losses.items():
                self.log(f"train/{name}/{kind}", loss.detach(), prog_bar=True, batch_size=len(images))
            total = total + task.weight * torch.stack(list(losses.values())).sum()
        if self.teacher:
            total = total + self.teacher.weight * self._taught(self.teacher(images), outputs, size)
        self.guard.see_loss(total, [target.image_id for target in batch.targets])
        return total

    def _taught(self, goals: dict[str, Any], outputs: dict[str, Any], size: tuple[int, int]) -> Tensor:
        """The sum of what the tasks have to learn from a teacher's outputs, with or without labels."""
        losses = [
            (f"train/{name}/distill_{kind}", loss)
            for name, task in self.tasks.items()
            for kind, loss in task.distillation(outputs[name], goals[name], size).items()
        ]
        for key, loss in losses:
            self.log(key, loss.detach(), batch_size=1)  # every process has as many pictures
        return torch.stack([loss for _, loss in losses]).sum()

    def on_train_start(self) -> None:
        """Train with the settings of the optimizer that were given, which a checkpoint's have just replaced."""
        schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        for optimizer in self.trainer.optimizers:
            apply_settings(optimizer, schedules, self._settings)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """A step whose loss is not finite is skipped, on every process."""
        precision = self.trainer.precision_plugin
        scaled = isinstance(precision, MixedPrecision) and precision.scaler is not None
        self.guard.end_step(check_gradients=not scaled)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """After a restart, take up the random numbers where they were."""
        self.guard.start_batch()
        if self._random_state is not None:
            random_state.restore(self._random_state, self.device)
            self._random_state = None

    def on_validation_epoch_start(self) -> None:
        """Start counting anew, with the same running statistics on every process."""
        for evaluator in self.evaluators.values():
            evaluator.reset()
        self.kept = []
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
        found = {name: task.predict(outputs[name], size) for name, task in self.tasks.items()}
        for name, predictions in found.items():
            self.evaluators[name].update(predictions, batch.targets)
        for place, target in list(enumerate(batch.targets))[: self.pictures - len(self.kept)]:
            index = (first + place) * self.trainer.world_size + self.trainer.global_rank
            self.kept.append(
                KeptSample(index, target, {name: predictions[place] for name, predictions in found.items()})
            )

    def on_validation_epoch_end(self) -> None:
        """Every process computes the same numbers over the whole set."""
        for name, evaluator in self.evaluators.items():
            self.metrics[name] = evaluator.compute()
            for key, value in self.metrics[name].items():
                if isinstance(value, float):
                    bar = key == self.tasks[name].metric
                    # All processes hold the same number: the maximum, unlike the mean, rounds nothing.
                    self.log(f"val/{name}/{key}", value, prog_bar=bar, reduce_fx="max", sync_dist=True)
        if self.trainer.state.fn == "fit":
            self.log("val/score", self.score, reduce_fx="max", sync_dist=True)

    @property
    def score(self) -> float:
        """What is best is best by this: the mean of the tasks' main metrics."""
        values = [float(self.metrics[name][task.metric]) for name, task in self.tasks.items()]
        return sum(values) / len(values)

    def configure_optimizers(self) -> Any:
        """No decay on norms and biases; the schedule moves every step."""
        assert self.optimizer is not None
        optimizer = self.optimizer(parameter_groups(self.network))
        self._settings = [
            {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
        ]
        if self.schedule is None:
            return optimizer
        total = self.trainer.estimated_stepping_batches
        # Lightning sets datamodule on the trainer outside its class, where mypy does not look.
        if (data := self.trainer.datamodule) is not None and data.total_steps is not None:  # type: ignore[attr-defined]
            total = data.total_steps
        scheduler = self.schedule(optimizer, int(total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the network, the versions it was trained with, and the state of the random numbers."""
        versions = {name: version(name) for name in ("torch", "lightning", "numpy")}
        checkpoint["mbvision"] = {**self.network_config, "versions": {"python": python_version(), **versions}}
        checkpoint["random"] = random_state.of_all_processes(random_state.capture(self.device))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep this process's random state until the first batch: restoring the loaders draws numbers.

        A run that averages no more continues with the weights themselves. States of callbacks that it has not go.
        """
        # The same holds for callbacks.
        own = {callback.state_key for callback in self.trainer.callbacks}  # type: ignore[attr-defined]
        checkpoint["callbacks"] = {key: state for key, state in checkpoint["callbacks"].items() if key in own}
        if not any(isinstance(callback, WeightAveraging) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            checkpoint["state_dict"] = checkpoint.get("current_model_state", checkpoint["state_dict"])
        states = checkpoint.get("random")
        if not isinstance(states, list):
            raise CheckpointError("the checkpoint holds no random states, so no run can go on from it: use pretrained=")
        self._random_state = states[self.global_rank] if self.global_rank < len(states) else None
