"""A frozen network whose outputs another one learns from."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.errors import ConfigError


class Teacher:
    """Outputs without gradients, of a network in evaluation mode with its own normalisation.

    ``weight`` is the share of what it teaches in the summed loss, ``temperature`` what softens class probabilities.
    No module, so that it is neither trained, averaged, synchronised nor written into checkpoints.
    """

    def __init__(self, network: nn.Module, *, weight: float, temperature: float) -> None:
        if not weight >= 0:
            raise ConfigError(f"distill_weight={weight}: give a number from 0 up")
        if not temperature > 0:
            raise ConfigError(f"distill_temperature={temperature}: give a number above 0")
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.weight, self.temperature = weight, temperature

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Any]:
        """Raw outputs by head, where the images are."""
        return self.network.to(images.device)(images)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """The same one: an averaged copy of the student does not need its own."""
        return self
