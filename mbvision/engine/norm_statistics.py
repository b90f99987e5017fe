"""Running statistics of batch norms that are those of the weights which are scored, also early in a run.

A running average with a momentum of 0.01 looks back a hundred steps: early in a run, and in all of a short one, the
weights that it was made with were other ones, and the network is scored as if it had learnt nothing.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import lightning.pytorch as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbvision.data.collate import collate
from mbvision.data.sampling import EpochSampler
from mbvision.engine.callbacks import RunCheckpoints
from mbvision.engine.data_module import VisionData
from mbvision.engine.module import VisionModule
from mbvision.engine.single_image import norms_of_single_values
from mbvision.engine.weight_average import WarmAverage

logger = logging.getLogger(__name__)

YOUNG = 5.0
"""A run is young for so many times 1 / momentum steps: what came before them weighs exp(-5) in the average then."""
BATCHES = 10
"""Training batches that statistics are taken from, over all processes: what PyTorch's default momentum looks back."""


@torch.no_grad()
def estimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Make the running statistics of a network those of all values in some batches of images; it is left evaluating.

    Each batch is normalised by its own statistics, as in training (arXiv:2105.07576, section 3.1, as "PreciseBN").
    Frozen norms stay as they are, nothing is drawn at random, and processes that train together share their values.
    """
    norms = [norm for norm in network.train().modules() if isinstance(norm, _BatchNorm) and norm.training]
    network.eval()
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    moments: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        if values.shape[1] > 1:  # one has no variance: see norms_of_single_values
            variance, mean = torch.var_mean(values.float(), dim=1, correction=0)
            moments[norm].append(torch.stack([mean.double(), variance.double() + mean.double() ** 2]))

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 0.0  # the old ones stay until all are known
        norm.num_batches_tracked = torch.zeros_like(norm.num_batches_tracked)  # type: ignore[arg-type]  # has it
    try:
        for images in batches:
            with norms_of_single_values(network) if len(images) == 1 else nullcontext():
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count
        network.eval()
    for norm in norms:
        if moments[norm]:
            mean, square = _over_processes(torch.stack(moments[norm]).mean(dim=0))
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]  # they are tracked
            norm.running_var.copy_((square - mean**2).clamp(min=0))  # type: ignore[union-attr]  # likewise


def _over_processes(values: Tensor) -> Tensor:
    """The mean over the processes that train together."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


class NormStatistics(L.Callback):
    """Estimates the statistics before each validation of a young run, and where one ends without a validation.

    Those of the averaged weights, where there is an ``average``, which has to come before this callback: the network
    has them during a validation. A batch that is overfitted is always young.
    """

    def __init__(self, *, data: VisionData, average: WarmAverage | None) -> None:
        self.data, self.average = data, average

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate those of the weights that are scored next; the checkpoint saved after it has them too."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._estimate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Estimate those of the last weights, which are scored after the run."""
        if not RunCheckpoints.ends_unscored(trainer, batch_idx):
            return
        if self.average:
            self.average.on_validation_epoch_start(trainer, pl_module)
        self._estimate(trainer, pl_module)
        if self.average:
            self.average.on_validation_epoch_end(trainer, pl_module)
        assert isinstance(pl_module, VisionModule)
        pl_module.network.train()

    def _estimate(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, VisionModule)
        network = pl_module.network
        momenta = [norm.momentum or 0.0 for norm in network.modules() if isinstance(norm, _BatchNorm)]
        if self.data.repeat_epoch or any(trainer.global_step * momentum < YOUNG for momentum in momenta):
            with trainer.precision_plugin.forward_context():
                estimate(network, (images.to(pl_module.device) for images in self._batches(trainer)))

    def _batches(self, trainer: L.Trainer) -> Iterator[Tensor]:
        """The images of the first batches of the first epoch, the same at any step and after a restart."""
        dataset = self.data.train_set
        assert dataset is not None
        sampler = EpochSampler(
            length=len(dataset), rank=trainer.global_rank, world_size=trainer.world_size, repeat=True
        )
        size = min(self.data.batch_size, len(sampler))
        most = min(int(trainer.num_training_batches), len(sampler) // size)
        draws = iter(sampler)
        for _ in range(min(most, -(-BATCHES // trainer.world_size))):
            yield collate(dataset.__getitems__(list(islice(draws, size)))).float_images()
