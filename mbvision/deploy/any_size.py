"""Parts of a network from operations that a graph can hold where it does not know the sizes of its maps."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.heads.lraspp import LargePool


class AnySizePool(nn.Module):
    """What `mbvision.heads.lraspp.LargePool` gives, from running sums: its kernel depends on the size of the map."""

    def __init__(self, *, like: LargePool) -> None:
        super().__init__()
        self.kernel, self.stride = like.kernel, like.stride

    def forward(self, inputs: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h2 w2"]:
        """The same coarse grid of means."""
        for axis, stride in zip((2, 3), self.stride, strict=True):
            inputs = self._means(inputs, axis, stride)
        return inputs

    def _means(self, inputs: Tensor, axis: int, stride: int) -> Tensor:
        """The mean of each window along an axis; where the kernel does not fit into it, that of all of it."""
        side = inputs.shape[axis]
        first = torch.arange(0, torch.sym_max(side - self.kernel, 0) + 1, stride, device=inputs.device)
        width: Any = torch.sym_min(self.kernel, side)
        none = torch.zeros_like(inputs.narrow(axis, 0, 1))
        sums = torch.cat([none, inputs.cumsum(axis)], dim=axis)
        return (sums.index_select(axis, first + width) - sums.index_select(axis, first)) / width
