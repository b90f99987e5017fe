"""Checkpoints of the smallest networks with random weights: every layer shows in the outputs, nothing was learnt."""

from pathlib import Path

import torch

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands.compose import compose_config
from tests.tiny_runs import SMALLEST

CLASSES = 4


def write_checkpoint(path: Path, *overrides: str, seed: int = 0, spread: bool = True) -> Path:
    """A checkpoint of the network that the overrides of ``train`` name, for ``CLASSES`` classes in each head.

    Without ``spread`` its batch norms are those of a network before training: all its scores are almost equal.
    """
    torch.manual_seed(seed)
    config = compose_config("train", [*SMALLEST, *overrides])
    network = build_network(config, dict.fromkeys(config["heads"], CLASSES))
    for layer in network.modules():
        if spread and isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    names = {head: [f"{head}-{label}" for label in range(CLASSES)] for head in config["heads"]}
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    checkpoint.write(path, {"state_dict": state, "mbvision": checkpoint.description(config, names)})
    return path
