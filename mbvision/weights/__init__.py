"""Weights to start from, and weights for others: our checkpoints, plain state dicts, torchvision's and timm's."""

from mbvision.weights.load import from_timm, from_torchvision, load_pretrained, load_trunk_only
from mbvision.weights.models import find_model
from mbvision.weights.write import export_weights, to_library

__all__ = [
    "export_weights",
    "find_model",
    "from_timm",
    "from_torchvision",
    "load_pretrained",
    "load_trunk_only",
    "to_library",
]
