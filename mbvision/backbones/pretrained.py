"""Weights by other names: torchvision's state dicts turned into ours, and strict loading of trunks.

Our names are those of a Network: ``backbone.`` for the trunk, ``heads.classification.`` for the classifier.
"""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from mbvision.backbones.base import Backbone
from mbvision.errors import CheckpointError

_CONV_NORM = {".0": ".conv", ".1": ".norm"}
_SQUEEZE = {".fc1": ".reduce", ".fc2": ".expand"}
_CLASSIFIERS = {
    "classifier.0": "heads.classification.hidden",  # V3
    "classifier.3": "heads.classification.output",  # V3
    "classifier.1": "heads.classification.output",  # V2
}
_REMEDY = "build it with the backbone, width and classes that they were trained with"
_TRUNK = re.compile(r"features\.|backbone\.features\.|backbone\.\d+\.")


def rename_torchvision(state: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """The weights of a torchvision MobileNetV2 or V3 under our names.

    ``state`` is the state dict of a classifier, or of SSDLite, LR-ASPP or DeepLabV3 on MobileNetV3; the latter three
    give their trunk only, what else they hold is left to the heads. Layers deeper than ``backbone`` was built are left
    out. A name that fits neither raises CheckpointError.
    """
    family = "conv" if any(key.startswith("features.1.conv.") for key in state) else "block"
    names = {theirs: f"backbone.{ours}" for theirs, ours in _trunk_names(backbone, family)}
    contained = any(key.startswith("backbone.") for key in state)
    if any(key.startswith("backbone.features.") for key in state):
        split = _split(backbone)
        names = {_in_ssdlite(theirs, split): ours for theirs, ours in names.items()}
    elif contained:
        names = {theirs.replace("features.", "backbone.", 1): ours for theirs, ours in names.items()}
    else:
        names |= _CLASSIFIERS
    renamed = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if layer in names:
            renamed[f"{names[layer]}.{leaf}"] = tensor
        elif not _may_be_left(key, backbone, contained):
            raise CheckpointError(f"{key} is no layer of this backbone; these weights are of another network")
    return renamed


def load_trunk(backbone: Backbone, state: Mapping[str, Tensor]) -> None:
    """Copy the trunk's weights into ``backbone``; heads in ``state`` are ignored, and layers deeper than it was built.

    ``state`` is that of a Network (``backbone.stem...``), of a Backbone (``stem...``), or torchvision's. Raises
    CheckpointError as ``load_strict``.
    """
    if "stem.conv.weight" in state:
        trunk = dict(state)
    else:
        if "backbone.stem.conv.weight" not in state:
            state = rename_torchvision(state, backbone)
        trunk = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    load_strict(backbone, {key: value for key, value in trunk.items() if not _is_deeper(key, backbone)})


def load_strict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``module``.

    Raises CheckpointError, before anything is copied, for the first layer missing, of another shape or too many.
    """
    expected = module.state_dict()
    for name, tensor in expected.items():
        shape = list(tensor.shape)
        if name not in state:
            raise CheckpointError(f"{name} is {shape} in the network and missing from the weights; {_REMEDY}")
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"{name} is {shape} in the network and {list(state[name].shape)} in the weights; {_REMEDY}"
            )
    for name, tensor in state.items():
        if name not in expected:
            raise CheckpointError(f"{name} is {list(tensor.shape)} in the weights and not in the network; {_REMEDY}")
    module.load_state_dict(dict(state))


def _trunk_names(backbone: Backbone, family: str) -> Iterator[tuple[str, str]]:
    """Layer by layer, the name in a torchvision classifier and in ours. The family is "conv" (V2) or "block"."""
    for theirs, ours in _CONV_NORM.items():
        yield f"features.0{theirs}", f"stem{ours}"
        if not isinstance(backbone.last, nn.Identity):
            yield f"features.{len(backbone.blocks) + 1}{theirs}", f"last{ours}"
    for index, block in enumerate(backbone.blocks):
        parts = [name for name, part in block.named_children() if not isinstance(part, nn.Identity)]
        for position, part in enumerate(parts):
            theirs, ours = f"features.{index + 1}.{family}.{position}", f"blocks.{index}.{part}"
            if family == "conv" and part == "project":  # V2 does not wrap its projection
                yield theirs, f"{ours}.conv"
                yield f"features.{index + 1}.conv.{position + 1}", f"{ours}.norm"
                continue
            for their_leaf, our_leaf in (_SQUEEZE if part == "squeeze" else _CONV_NORM).items():
                yield theirs + their_leaf, ours + our_leaf


def _split(backbone: Backbone) -> int:
    """The index in torchvision's `features` of the block whose expansion SSDLite reads."""
    tapped = [index for index, row in enumerate(backbone.rows) if row.expanded_tap == "c4_expanded"]
    return tapped[0] + 1 if tapped else len(backbone.rows) + 1


def _in_ssdlite(name: str, split: int) -> str:
    """A classifier's layer as torchvision's SSDLite calls it: two sequences, cut behind an expansion."""
    _, position, rest = name.split(".", 2)
    index = int(position)
    if index == split and rest.startswith("block.0."):
        return f"backbone.features.0.{index}.{rest.removeprefix('block.0.')}"
    if index == split:
        return f"backbone.features.1.0.{rest.removeprefix('block.')}"
    return f"backbone.features.0.{name[9:]}" if index < split else f"backbone.features.1.{index - split}.{rest}"


def _may_be_left(key: str, backbone: Backbone, contained: bool) -> bool:
    """Whether a torchvision layer without a name of ours is rightly so."""
    if _TRUNK.match(key):
        return isinstance(backbone.last, nn.Identity)  # it was not built to its end
    return contained


def _is_deeper(key: str, backbone: Backbone) -> bool:
    """Whether one of our layers lies below the deepest that ``backbone`` has."""
    block = re.match(r"blocks\.(\d+)\.", key)
    if block:
        return int(block[1]) >= len(backbone.blocks)
    return key.startswith("last.") and isinstance(backbone.last, nn.Identity)
