"""Our weights in the format of torchvision or timm, so that a network trained here runs there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mbvision import checkpoint
from mbvision.errors import CheckpointError
from mbvision.network import Network
from mbvision.weights.models import Model, find_model
from mbvision.weights.published import Library

LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""The tensors of a convolution, a linear layer or a norm, in the order of their state dicts."""


def to_library(network: Network, model: Model) -> dict[str, Tensor]:
    """The weights of ``network`` as the state dict of ``model``, which ``find_model`` gave: their names and order."""
    own, state = network.state_dict(), {}
    for theirs, ours in model.layers:
        for leaf in LEAVES:
            if f"{ours}.{leaf}" in own:
                state[f"{theirs}.{leaf}"] = own[f"{ours}.{leaf}"]
    if "conv_stem.weight" in state and "conv_head.bias" in state:  # timm's V3 has a 1x1 where we have a linear layer
        state["conv_head.weight"] = state["conv_head.weight"][:, :, None, None]
    return state


def export_weights(source: Path, path: Path, library: Library) -> str:
    """Write a checkpoint's weights for ``library``; how to use them there, in a few lines.

    A ``path`` that ends in .safetensors is written so, else as by ``torch.save``. Raises `CheckpointError` saying what
    differs where the library has no such model.
    """
    content = checkpoint.read(source)
    network, _, about = checkpoint.rebuild(content, source)
    node: Mapping[str, Any] = about["config"]["backbone"]
    architecture = node["_target_"].rpartition(".")[2]
    try:
        model = find_model(network, library, architecture=architecture, width=node["width"])
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    state = {key: tensor.contiguous() for key, tensor in to_library(network, model).items()}
    tensors_only = path.suffix == ".safetensors"
    if tensors_only:
        checkpoint.write_safetensors(path, state)
    else:
        checkpoint.write(path, state)
    return "\n".join(_instructions(network, model, library, path, tensors_only))


def _instructions(network: Network, model: Model, library: str, path: Path, tensors_only: bool) -> list[str]:
    loaded = f'torch.load("{path}", weights_only=True)'
    lines = [
        "import timm, torch" if library == "timm" else "import torch, torchvision",
        f"model = {model.call()}",
        f"model.load_state_dict({f'safetensors.torch.load_file({str(path)!r})' if tensors_only else loaded})",
    ]
    mean, std = ([round(value, 6) for value in buffer.flatten().tolist()] for buffer in (network.mean, network.std))
    if "detection" in network.heads:
        return [*lines, "# it resizes to 320x320 and normalises by itself; label 0 is background, 1 our first class"]
    return [*lines, f"# input: RGB in 0..1, then (x - mean) / std with mean {mean}, std {std}"]
