"""What the summed loss of a batch is divided by, also where several processes have a part of the batch each."""

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from mbvision.errors import ConfigError

Normalizer = Literal["global", "process"]


def check_normalizer(normalizer: str) -> None:
    """Raise `ConfigError` for an unknown one."""
    if normalizer not in ("global", "process"):
        raise ConfigError(f"normalizer={normalizer!r}: choose global or process")


def loss_divisor(count: Tensor, normalizer: Normalizer = "global", *, minimum: float = 0.0) -> Tensor:
    """The divisor of this process's summed loss, from the number of things that it sums over.

    ``global`` is the mean of ``count`` over all processes: since gradients are averaged over the processes, they are
    then those of the whole batch, however it is split. Every process has to call it, also one with nothing to count.
    ``process`` is its own ``count``, as most published training scripts have it. A batch counts for ``minimum`` at
    least; one without anything to count is divided by 1.
    """
    if normalizer == "process" or not (dist.is_available() and dist.is_initialized()):
        return _or_one(count.clamp(min=minimum))
    total = count.detach().to(torch.float64)  # pixels of large batches are above the whole numbers of float32
    dist.all_reduce(total)
    return (_or_one(total.clamp(min=minimum)) / dist.get_world_size()).float()


def _or_one(count: Tensor) -> Tensor:
    return torch.where(count > 0, count, 1)
