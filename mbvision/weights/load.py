"""Start a network, or its backbone alone, from a weight file of ours, of torchvision or of timm."""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.hub import load_state_dict_from_url
from torchvision.models import get_model_weights, list_models

from mbvision.backbones.pretrained import load_strict, load_trunk, rename_timm, rename_torchvision
from mbvision.checkpoint import network_weights, read_any
from mbvision.errors import CheckpointError
from mbvision.heads.deeplabv3 import DeepLabV3
from mbvision.heads.pretrained import rename_deeplabv3, rename_lraspp, rename_ssdlite
from mbvision.network import Network
from mbvision.state_dicts import check_values
from mbvision.weights.published import HALF, IMAGENET_MEAN, IMAGENET_STD, Library, fitting_settings, published

logger = logging.getLogger(__name__)

CLASS_LAYERS = re.compile(r"heads\.\w+\.(auxiliary\.)?(class_predictors|(high_|low_)?output)\.")
"""What of a head depends on the classes."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """What a source holds: tensors under our names, and class names by head where they are known."""

    tensors: dict[str, Tensor]
    class_names: Mapping[str, Sequence[str]]


def from_torchvision(state: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The weights of a torchvision classifier, SSDLite or segmenter under our names, with their normalisation."""
    detector = _is_detector(state)
    weights = rename_torchvision(state, network.backbone)
    if detector:
        weights |= rename_ssdlite(state)
    elif "classifier.cbr.0.weight" in state:
        weights |= rename_lraspp(state)
    elif "classifier.0.convs.0.0.weight" in state:
        weights |= rename_deeplabv3(state)
    mean, std = (HALF, HALF) if detector else (IMAGENET_MEAN, IMAGENET_STD)
    return weights | _buffers(mean, std)


def from_timm(state: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The weights of a timm MobileNet under our names; their normalisation is not in them, and stays the network's."""
    return rename_timm(state, network.backbone) | {"mean": network.mean, "std": network.std}


def load_pretrained(
    network: Network,
    source: str,
    *,
    architecture: str,
    class_names: Mapping[str, Sequence[str]],
    reset_head: bool = False,
    published_weights: bool = True,
) -> None:
    """Start the whole network from ``source``: the path of a weight file, or ``torchvision:NAME``.

    ``architecture`` is our name of the backbone; NAME is one of torchvision's weights for it, or COCO_V1 for its
    SSDLite. ``class_names`` are the data set's, by head: a checkpoint of ours with others is refused unless
    ``reset_head`` is set. Then what predicts classes, and what does not fit, keeps its random start, and the log says
    so. ``published_weights`` says that weights of torchvision or timm are those that these publish: the network must
    have their padding and BN epsilon, and gets their normalisation; without it the network keeps its own. Raises
    `CheckpointError` naming the file and the first tensor that differs.
    """
    found = _read_weights(source, network, architecture, published_weights, "pretrained")
    weights, known = found.tensors, found.class_names
    for head, names in class_names.items():
        if head in known and list(known[head]) != list(names) and not reset_head:
            raise CheckpointError(
                f"{source} knows {len(known[head])} classes, the data set has {len(names)}, and they are not the same"
                f" ({_first_difference(known[head], names)}): reset_head=true starts the heads anew"
            )
    own = network.state_dict()
    heads = {name for name in network.heads if any(key.startswith(f"heads.{name}.") for key in weights)}
    if missing := sorted(set(network.heads) - heads):
        logger.info("%s has no head for %s: it starts anew", source, ", ".join(missing))
    kept = {key: value for key, value in weights.items() if key in own or _must_fit(key, network, reset_head)}
    if any(".auxiliary." in key for key in weights.keys() - kept.keys()):
        logger.info("%s has an auxiliary head, this network has none", source)
    anew: Counter[str] = Counter()
    for key, tensor in own.items():
        if not key.startswith("heads."):
            continue
        absent = key.split(".")[1] in missing
        unfit = key not in kept or kept[key].shape != tensor.shape or CLASS_LAYERS.match(key)
        if absent or (reset_head and unfit):
            if not absent:
                anew[key.split(".")[1]] += 1
            kept[key] = tensor
    for head, count in anew.items():
        logger.info("reset_head: what tells the classes of %s apart starts anew (%d tensors)", head, count)
    try:
        load_strict(network, kept)
    except CheckpointError as error:
        heads_differ = str(error).startswith("heads.") and not reset_head
        hint = " (for another number of classes: reset_head=true)" if heads_differ else ""
        raise CheckpointError(f"{source}: {error}{hint}") from error
    logger.info("weights from %s", source)


def _must_fit(key: str, network: Network, reset_head: bool) -> bool:
    """Whether a tensor that the network has no place for is a mistake: not where its head is another or starts anew."""
    if not key.startswith("heads."):
        return True
    return not reset_head and key.split(".")[1] in network.heads and ".auxiliary." not in key


def _first_difference(one: Sequence[str], other: Sequence[str]) -> str:
    pairs = itertools.zip_longest(one, other, fillvalue="nothing")
    first, second = next((a, b) for a, b in pairs if a != b)
    return f"first {first} there, {second} here"


def load_trunk_only(network: Network, source: str, *, architecture: str, published_weights: bool = True) -> None:
    """Start the backbone from the trunk in a weight file or ``torchvision:NAME``, normalisation included.

    Arguments as those of ``load_pretrained``.
    """
    weights = _read_weights(source, network, architecture, published_weights, "backbone.weights").tensors
    try:
        load_trunk(network.backbone, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    for name in ("mean", "std"):
        if name in weights:
            getattr(network, name).copy_(weights[name])
    logger.info("backbone from %s", source)


def _read_weights(source: str, network: Network, architecture: str, published_weights: bool, key: str) -> _Weights:
    """Weights under our names, from whichever kind of source; ``key`` is the one that names it."""
    if source.startswith("torchvision:"):
        state, about = _download(source.partition(":")[2], architecture, network, key), None
    else:
        state, about = read_any(Path(source))
    check_values(state, source)
    if about is not None:
        return _Weights(network_weights({"state_dict": state}), about.get("class_names", {}))
    try:
        return _Weights(_renamed(state, network, architecture, published_weights), {})
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error


def _renamed(
    state: Mapping[str, Tensor], network: Network, architecture: str, published_weights: bool
) -> dict[str, Tensor]:
    """A plain state dict under our names, whoever wrote it."""
    library: Library
    if "backbone.stem.conv.weight" in state:
        return dict(state)
    if "conv_stem.weight" in state:
        library, weights = "timm", from_timm(state, network)
    elif any(re.match(r"(backbone\.)?features\.|backbone\.\d", key) for key in state):
        library, weights = "torchvision", from_torchvision(state, network)
    else:
        first = next(iter(state))
        wrapped = re.match(r"(.+?\.)(conv_stem|features\.0|backbone)\.", first)
        remedy = f": take {wrapped[1]!r} off the names" if wrapped else ""
        raise CheckpointError(
            f"{first} {list(state[first].shape)} is a name of no known MobileNet, where this network has"
            f" stem.conv.weight {list(network.backbone.state_dict()['stem.conv.weight'].shape)}; weights of mbvision,"
            f" torchvision and timm are read{remedy}"
        )
    if not published_weights:
        return weights | {"mean": network.mean, "std": network.std}
    choices = published(library, architecture, detector=library == "torchvision" and _is_detector(state))
    for settings in fitting_settings(network, choices)[:1]:
        weights |= _buffers(settings.mean, settings.std)
        logger.info(
            "normalisation of %s weights: mean %s, std %s (published_weights=false: the network's own)",
            settings.whose,
            list(settings.mean),
            list(settings.std),
        )
    return weights


def _is_detector(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith("head.classification_head") for key in state)


def _buffers(mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    return {"mean": torch.tensor(mean).view(1, 3, 1, 1), "std": torch.tensor(std).view(1, 3, 1, 1)}


def _download(name: str, architecture: str, network: Network, key: str) -> Mapping[str, Tensor]:
    """Weights from torchvision's own download cache; says what it fetches. COCO names are those of its SSDLite."""
    model = architecture
    if name == "COCO_WITH_VOC_LABELS_V1":
        deeplab = any(isinstance(head, DeepLabV3) for head in network.heads.values())
        model = f"{'deeplabv3' if deeplab else 'lraspp'}_mobilenet_v3_large"
    elif name.startswith("COCO"):
        model = "ssdlite320_mobilenet_v3_large"
    if model not in list_models():
        raise CheckpointError(f"torchvision:{name}: torchvision has no {model}; use {key}=PATH")
    choices = get_model_weights(model).__members__
    if name not in choices:
        raise CheckpointError(f"torchvision:{name}: no such weights of {model}; choose {', '.join(choices)}")
    url = choices[name].url
    logger.info("fetching %s into torch.hub's cache", url)
    try:
        state: Mapping[str, Tensor] = load_state_dict_from_url(url, progress=True, weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{url} cannot be fetched ({error}); fetch it by hand and use {key}=PATH") from error
    return state
