"""What a head is: feature maps in, raw outputs out; no loss, no post-processing."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Reads the backbone's features named by ``taps``."""

    taps: tuple[str, ...]

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Any:
        """A Tensor or a NamedTuple of Tensors, from feature maps ``[B, C, H, W]`` by tap name."""
