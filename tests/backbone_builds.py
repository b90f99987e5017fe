"""The factories of the backbones, and one built for its shapes and counts only."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from mbvision.backbones import mobilenet_v1, mobilenet_v2, mobilenet_v3
from mbvision.backbones.base import MobileNet

FACTORIES: dict[str, Callable[..., MobileNet]] = {
    "v1": mobilenet_v1.mobilenet_v1,
    "v2": mobilenet_v2.mobilenet_v2,
    "v3_large": mobilenet_v3.mobilenet_v3_large,
    "v3_small": mobilenet_v3.mobilenet_v3_small,
    "v3_large_minimalistic": mobilenet_v3.mobilenet_v3_large_minimalistic,
    "v3_small_minimalistic": mobilenet_v3.mobilenet_v3_small_minimalistic,
}


def build(factory: str | Callable[..., MobileNet], **arguments: Any) -> MobileNet:
    """A backbone whose convolutions are left unfilled, which takes most of the time: for shapes and counts only."""
    make = FACTORIES[factory] if isinstance(factory, str) else factory
    with patch("torch.nn.init.kaiming_normal_"), patch("torch.nn.init.kaiming_uniform_"):
        return make(**({"taps": ["c5"]} | arguments)).eval()


def parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())
