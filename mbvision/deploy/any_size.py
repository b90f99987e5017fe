"""Parts of a network from operations that a graph can hold where it does not know the sizes of its maps."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.heads.lraspp import LargePool


class AnySizePool(nn.Module):
    """What `mbvision.heads.lraspp.LargePool` gives, from products with matrices: its kernel depends on the size."""

    def __init__(self, *, like: LargePool) -> None:
        super().__init__()
        self.kernel, self.stride = like.kernel, like.stride

    def forward(self, inputs: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h2 w2"]:
        """The same coarse grid of means."""
        rows = self._means(inputs.shape[2], self.stride[0], inputs)
        columns = self._means(inputs.shape[3], self.stride[1], inputs)
        return ((inputs @ columns.T).transpose(2, 3) @ rows.T).transpose(2, 3)

    def _means(self, side: int, stride: int, like: Tensor) -> Float[Tensor, "n side"]:
        """A row for each window along an axis; where the kernel does not fit into it, one row over all of it."""
        last = torch.sym_max(side - self.kernel, 0)
        first = torch.arange(0, last + 1, stride, device=like.device)[:, None]
        place = torch.arange(side, device=like.device)[None]
        inside = ((place >= first) & (place < first + self.kernel)).to(like.dtype)
        return inside / inside.sum(dim=1, keepdim=True)
