"""Weights to start from: our checkpoints, plain state dicts, and torchvision's."""

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.hub import load_state_dict_from_url
from torchvision.models import get_model_weights, list_models

from mbvision.backbones.pretrained import load_strict, load_trunk, rename_torchvision
from mbvision.checkpoint import network_weights, read
from mbvision.errors import CheckpointError
from mbvision.heads.deeplabv3 import DeepLabV3
from mbvision.heads.pretrained import rename_deeplabv3, rename_lraspp
from mbvision.network import Network

logger = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's classifiers were trained with: torchvision.transforms._presets.ImageClassification."""
SSDLITE_MEAN_STD = (0.5, 0.5, 0.5)
"""torchvision's ssdlite320_mobilenet_v3_large: both mean and standard deviation."""

CLASS_LAYERS = re.compile(r"heads\.\w+\.(auxiliary\.)?(class_predictors|(high_|low_)?output)\.")
"""What of a head depends on the classes."""

_SSDLITE_NAMES = (
    (r"backbone\.extra\.(\d+)\.(\d)\.0\.", r"heads.detection.extra.\1.\2.conv."),
    (r"backbone\.extra\.(\d+)\.(\d)\.1\.", r"heads.detection.extra.\1.\2.norm."),
    (r"head\.(\w+)_head\.module_list\.(\d)\.0\.0\.", r"heads.detection.\1_predictors.\2.0.conv."),
    (r"head\.(\w+)_head\.module_list\.(\d)\.0\.1\.", r"heads.detection.\1_predictors.\2.0.norm."),
    (r"head\.(\w+)_head\.module_list\.(\d)\.1\.", r"heads.detection.\1_predictors.\2.1."),
)


def rename_ssdlite_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The extra layers and predictors of torchvision's SSDLite under our names."""
    renamed = {}
    for key, tensor in state.items():
        for theirs, ours in _SSDLITE_NAMES:
            new, count = re.subn("^" + theirs, ours, key)
            if count:
                new = new.replace("classification_predictors", "class_predictors")
                renamed[new.replace("regression_predictors", "box_predictors")] = tensor
    return renamed


def from_torchvision(state: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The weights of a torchvision classifier, SSDLite or segmenter under our names, with their normalisation."""
    detector = any(key.startswith("head.classification_head") for key in state)
    mean, std = (SSDLITE_MEAN_STD, SSDLITE_MEAN_STD) if detector else (IMAGENET_MEAN, IMAGENET_STD)
    weights = rename_torchvision(state, network.backbone)
    if detector:
        weights |= rename_ssdlite_head(state)
    elif "classifier.cbr.0.weight" in state:
        weights |= rename_lraspp(state)
    elif "classifier.0.convs.0.0.weight" in state:
        weights |= rename_deeplabv3(state)
    weights["mean"] = torch.tensor(mean).view(1, 3, 1, 1)
    weights["std"] = torch.tensor(std).view(1, 3, 1, 1)
    return weights


def load_pretrained(
    network: Network,
    source: str,
    *,
    architecture: str,
    class_names: Mapping[str, Sequence[str]],
    reset_head: bool = False,
) -> None:
    """Start the whole network from ``source``: the path of a weight file, or ``torchvision:NAME``.

    ``architecture`` is torchvision's name of the backbone; NAME is one of its weights, or COCO_V1 for its SSDLite.
    ``class_names`` are the data set's, by head: a checkpoint of ours with others is refused unless ``reset_head`` is
    set. Then what predicts classes, and what does not fit, keeps its random start, and the log says so. Raises
    `CheckpointError` naming the file and the first tensor that differs.
    """
    weights, known = _read_weights(source, network, architecture)
    for head, names in class_names.items():
        if head in known and list(known[head]) != list(names) and not reset_head:
            raise CheckpointError(
                f"{source} knows {len(known[head])} classes, the data set has {len(names)}, and they are not the same"
                f" ({_first_difference(known[head], names)}): reset_head=true starts the heads anew"
            )
    if not all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point()):
        raise CheckpointError(f"{source} holds values that are not finite")
    own = network.state_dict()
    heads = {name for name in network.heads if any(key.startswith(f"heads.{name}.") for key in weights)}
    if missing := sorted(set(network.heads) - heads):
        logger.info("%s has no head for %s: it starts anew", source, ", ".join(missing))
    kept = {key: value for key, value in weights.items() if key in own or not key.startswith("heads.")}
    for key, tensor in own.items():
        if not key.startswith("heads."):
            continue
        absent = key.split(".")[1] in missing
        unfit = key not in kept or kept[key].shape != tensor.shape or CLASS_LAYERS.match(key)
        if absent or (reset_head and unfit):
            if not absent:
                logger.info("%s starts anew", key)
            kept[key] = tensor
    try:
        load_strict(network, kept)
    except CheckpointError as error:
        hint = "" if reset_head else " (for another number of classes: reset_head=true)"
        raise CheckpointError(f"{source}: {error}{hint}") from error
    logger.info("weights from %s", source)


def _first_difference(one: Sequence[str], other: Sequence[str]) -> str:
    pairs = itertools.zip_longest(one, other, fillvalue="nothing")
    first, second = next((a, b) for a, b in pairs if a != b)
    return f"first {first} there, {second} here"


def load_trunk_only(network: Network, source: str, *, architecture: str) -> None:
    """Start the backbone from the trunk in a weight file or ``torchvision:NAME``, normalisation included."""
    weights, _ = _read_weights(source, network, architecture)
    try:
        load_trunk(network.backbone, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    for name in ("mean", "std"):
        if name in weights:
            getattr(network, name).copy_(weights[name])
    logger.info("backbone from %s", source)


def _read_weights(
    source: str, network: Network, architecture: str
) -> tuple[dict[str, Tensor], Mapping[str, Sequence[str]]]:
    """Weights under our names, from whichever kind of source, and the class names by head where they are known."""
    if source.startswith("torchvision:"):
        return from_torchvision(_download(source.partition(":")[2], architecture, network), network), {}
    path = Path(source)
    tensors_only = path.suffix == ".safetensors" and path.is_file()
    content: dict[str, Any] = dict(load_file(path)) if tensors_only else read(path)
    if "mbvision" in content:
        return network_weights(content), content["mbvision"].get("class_names", {})
    state = content.get("state_dict", content.get("model", content))
    tensors = {
        re.sub(r"^(module\.|_orig_mod\.)+", "", key): value for key, value in state.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(f"{source} holds no tensors: it is not a file of weights")
    try:
        return (tensors if "backbone.stem.conv.weight" in tensors else from_torchvision(tensors, network)), {}
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error


def _download(name: str, architecture: str, network: Network) -> Mapping[str, Tensor]:
    """Weights from torchvision's own download cache; says what it fetches. COCO names are those of its SSDLite."""
    model = architecture
    if name == "COCO_WITH_VOC_LABELS_V1":
        deeplab = any(isinstance(head, DeepLabV3) for head in network.heads.values())
        model = f"{'deeplabv3' if deeplab else 'lraspp'}_mobilenet_v3_large"
    elif name.startswith("COCO"):
        model = "ssdlite320_mobilenet_v3_large"
    if model not in list_models():
        raise CheckpointError(f"torchvision:{name}: torchvision has no {model}; use pretrained=PATH")
    choices = get_model_weights(model).__members__
    if name not in choices:
        raise CheckpointError(f"torchvision:{name}: no such weights of {model}; choose {', '.join(choices)}")
    url = choices[name].url
    logger.info("fetching %s into torch.hub's cache", url)
    try:
        state: Mapping[str, Tensor] = load_state_dict_from_url(url, progress=True, weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{url} cannot be fetched ({error}); fetch it by hand and use pretrained=PATH") from error
    return state
