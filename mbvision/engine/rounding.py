"""Training through the rounding of 8 bits, so that the weights come to suit it (arXiv:1712.05877 section 3)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.network import Network
from mbvision.quantization import STEPS, rounded_weights


class Rounding:
    """Runs a network with the weights and the inputs of every convolution and linear layer rounded to 8 bits.

    The network itself stays as it is: its weights are floats, and get the gradients. Norms are frozen, since files
    in 8 bits have them folded; a step for each channel is the same before and after folding. The range of an input is
    that of the batch: there is nothing to keep in a checkpoint.
    """

    def __init__(self, network: Network) -> None:
        network.freeze_norms()
        self.network = network

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Any]:
        """Raw outputs by head."""
        layers = {name: one for name, one in self.network.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)}
        weights = {f"{name}.weight": rounded_weights(layer.weight) for name, layer in layers.items()}
        handles = [layer.register_forward_pre_hook(_round_input) for layer in layers.values()]
        try:
            found: dict[str, Any] = torch.func.functional_call(self.network, weights, (images,))
        finally:
            for handle in handles:
                handle.remove()
        return found


def _round_input(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    values = inputs[0]
    low, high = values.detach().float().aminmax()
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = ((high - low) / STEPS).clamp(min=1e-12)
    zero = (-low / step).round().int()
    return (torch.fake_quantize_per_tensor_affine(values.float(), step, zero, 0, STEPS),)
