"""Keeps steps whose loss is not finite out of the weights, on all processes alike."""

import logging
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mbvision import stopping
from mbvision.errors import TrainingError

logger = logging.getLogger(__name__)


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """One boolean: whether every value of the floating-point tensors is finite. Does not wait for the device.

    Values over 1e19, whose square overflows, count as not finite too: nothing good comes of them.
    """
    floating = [tensor.detach().float() for tensor in tensors if tensor.is_floating_point()]
    if not floating:
        return torch.tensor(True)
    # Euclidean norms of all tensors at once: a tenth of the time that torch.isfinite takes for each on a processor.
    return torch.isfinite(torch.stack(torch._foreach_norm(floating, 2))).all()


def agreed(good: Tensor) -> bool:
    """Whether ``good`` is true on every process."""
    if dist.is_available() and dist.is_initialized():
        flag = good.to(torch.uint8)
        dist.all_reduce(flag, op=dist.ReduceOp.MIN)
        return bool(flag)
    return bool(good)


def agreed_stop(device: torch.device) -> int:
    """The signal that asked any process to stop; 0 for none."""
    if dist.is_available() and dist.is_initialized():
        flag = torch.tensor(stopping.requested(), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return int(flag)
    return stopping.requested()


def _agreed_step(good: Tensor) -> tuple[bool, int]:
    """Both of the above in one exchange: whether the step is good everywhere, and the signal that asked to stop."""
    if dist.is_available() and dist.is_initialized():
        flags = torch.stack([good.int(), torch.full_like(good, -stopping.requested(), dtype=torch.int32)])
        dist.all_reduce(flags, op=dist.ReduceOp.MIN)
        step_good, signum = flags.tolist()
        return bool(step_good), -signum
    return bool(good), stopping.requested()


class StepGuard:
    """Watches the batches of one optimizer step; a bad step changes neither weights nor running statistics.

    The backward pass runs on a bad loss too, because processes that train together have to exchange gradients; the
    gradients are then dropped on all of them. At most ``max_bad_steps`` bad steps may follow one another.
    ``stop_signal`` is the signal that asked any process to stop before the last step; 0 for none.
    """

    def __init__(self, network: nn.Module, *, max_bad_steps: int) -> None:
        if max_bad_steps < 0:
            raise TrainingError(f"max_nan_steps={max_bad_steps}: must be at least 0")
        self.network, self.max_bad_steps = network, max_bad_steps
        self._parameters = list(network.parameters())  # walking the modules at every step takes longer than the check
        self.stop_signal = 0
        self._bad_steps = 0
        self._good: list[Tensor] = []
        self._image_ids: list[int | str] = []
        self._buffers: list[tuple[list[Tensor], list[Tensor]]] = []

    def start_batch(self) -> None:
        """Remember the running statistics: a forward pass over values that are not finite would spoil them for good."""
        if self._good:
            return  # in the middle of a step over several batches: the statistics before the first one count
        with torch.no_grad():
            if not self._buffers:  # now the network is on its device
                buffers = list(self.network.buffers())
                for kind in {buffer.dtype for buffer in buffers}:  # one kernel for each type
                    same = [buffer for buffer in buffers if buffer.dtype == kind]
                    self._buffers.append((same, [buffer.clone() for buffer in same]))
            for current, kept in self._buffers:
                torch._foreach_copy_(kept, current)

    def see_loss(self, loss: Tensor, image_ids: Sequence[int | str]) -> None:
        """Note the loss of a batch; steps over several batches are good if all of them are."""
        self._good.append(torch.isfinite(loss.detach()))
        self._image_ids += image_ids

    def end_step(self, *, check_gradients: bool) -> None:
        """Before the optimizer's step: drop the gradients if the loss, or one of them, is not finite on any process.

        A loss scaler makes gradients overflow on purpose and skips those steps by itself: ``check_gradients`` is then
        false. Raises `TrainingError` after too many bad steps in a row, naming the images.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None] if check_gradients else []
        loss_good = torch.stack(self._good).all()
        image_ids, self._good, self._image_ids = self._image_ids, [], []
        good, self.stop_signal = _agreed_step(loss_good & all_finite(gradients).to(loss_good.device))
        if good:
            self._bad_steps = 0
            return
        for parameter in self._parameters:
            parameter.grad = None  # optimizers leave parameters without a gradient as they are, momentum included
        with torch.no_grad():
            for current, kept in self._buffers:
                torch._foreach_copy_(current, kept)
        self._bad_steps += 1
        image_ids = _bad_ids(image_ids, bool(loss_good))
        logger.warning("the loss or its gradient is not finite: the step is skipped; images %s", image_ids)
        if self._bad_steps > self.max_bad_steps:
            raise TrainingError(
                f"the loss was not finite in {self._bad_steps} steps in a row (max_nan_steps={self.max_bad_steps}),"
                f" last for the images {image_ids}: lower optimizer.lr, or check the annotations of these images"
            )


def _bad_ids(image_ids: list[int | str], loss_good: bool) -> list[int | str]:
    """The images of the processes whose loss is not finite, of all where it is a gradient; the same list everywhere."""
    parts = [(image_ids, loss_good)]
    if dist.is_available() and dist.is_initialized():
        parts = parts * dist.get_world_size()
        dist.all_gather_object(parts, (image_ids, loss_good))
    guilty = [ids for ids, good in parts if not good] or [ids for ids, _ in parts]
    return [image_id for ids in guilty for image_id in ids]
