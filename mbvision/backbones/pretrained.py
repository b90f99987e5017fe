"""Weights by other names: torchvision's and timm's state dicts turned into ours, and strict loading of trunks.

Our names are those of a Network: ``backbone.`` for the trunk, ``heads.classification.`` for the classifier.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from mbvision.backbones.base import Backbone
from mbvision.backbones.names import TIMM_STAGES, Form, Layers, timm_layers, torchvision_layers
from mbvision.errors import CheckpointError

_REMEDY = "build it with the backbone, width, width rule and classes that they were trained with"
_COUNTER = ".num_batches_tracked"
MAX_NAMED = 20
"""Missing tensors that a message names; it counts the others."""

_TRUNK = re.compile(r"features\.|backbone\.features\.|backbone\.\d+\.|blocks\.|conv_stem\.|conv_head\.|bn\d\.")


def torchvision_form(state: Mapping[str, Tensor]) -> Form:
    """Whether a torchvision state dict is a classifier's, a detector's, or a segmenter's."""
    if any(key.startswith("backbone.features.") for key in state):
        return "detector"
    return "segmenter" if any(key.startswith("backbone.") for key in state) else "classifier"


def rename_torchvision(state: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """The weights of a torchvision MobileNetV2 or V3 under our names.

    ``state`` is the state dict of a classifier, or of SSDLite, LR-ASPP or DeepLabV3 on MobileNetV3; the latter three
    give their trunk only, what else they hold is left to the heads. Layers deeper than ``backbone`` was built are left
    out. CheckpointError names the first layer that has no place in ``backbone`` or another shape.
    """
    form = torchvision_form(state)
    v2 = any(key.startswith("features.1.conv.") for key in state)
    layers = torchvision_layers(backbone, "v2" if v2 else "v3", form)
    return _rename(state, layers, backbone, contained=form != "classifier", cut=_is_cut(backbone))


def rename_timm(state: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """The weights of a timm MobileNetV1, V2 or V3 under our names, its 1x1 behind the pool as a linear layer.

    Layers deeper than ``backbone`` was built are left out. CheckpointError as in ``rename_torchvision``.
    """
    blocks = sum(re.fullmatch(r"blocks\.\d+\.\d+\.conv_dw\.weight", key) is not None for key in state)
    if blocks not in TIMM_STAGES:
        raise CheckpointError(
            f"a timm network with {blocks} depthwise blocks is none of V1 (13), V2 (17), V3-Large (15) and"
            " V3-Small (11); these weights are of another network"
        )
    cut = _is_cut(backbone) and not blocks == len(backbone.blocks) == 13  # V1 ends with its blocks
    renamed = _rename(state, timm_layers(backbone, blocks), backbone, contained=False, cut=cut)
    hidden = "heads.classification.hidden.weight"
    return renamed | ({hidden: renamed[hidden].flatten(1)} if hidden in renamed else {})


def load_trunk(backbone: Backbone, state: Mapping[str, Tensor]) -> None:
    """Copy the trunk's weights into ``backbone``; heads in ``state`` are ignored, and layers deeper than it was built.

    ``state`` is that of a Network (``backbone.stem...``), of a Backbone (``stem...``), torchvision's or timm's. Raises
    CheckpointError as ``load_strict``.
    """
    if "stem.conv.weight" in state:
        trunk = dict(state)
    else:
        if "conv_stem.weight" in state:
            state = rename_timm(state, backbone)
        elif "backbone.stem.conv.weight" not in state:
            state = rename_torchvision(state, backbone)
        trunk = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    load_strict(backbone, {key: value for key, value in trunk.items() if not _is_deeper(key, backbone)})


def load_strict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``module``; raises CheckpointError, before anything is copied, as ``check_fit``."""
    check_fit(module, state)
    counters = {key: value for key, value in module.state_dict().items() if key.endswith(_COUNTER)}
    module.load_state_dict(counters | dict(state))


def check_fit(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for the first layer missing in ``state``, of another shape or kind, or too many.

    All that are missing are named. The counters of batch norm may be missing, as in files of PyTorch before 0.4.1.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    for name, tensor in expected.items():
        if name in missing:
            others = [*missing[1 : MAX_NAMED + 1], *["..."] * (len(missing) > MAX_NAMED + 1)]
            more = f" (as are {len(missing) - 1} more: {', '.join(others)})" if others else ""
            raise CheckpointError(
                f"{name} is {list(tensor.shape)} in the network and missing from the weights{more}; {_REMEDY}"
            )
        if name not in state:
            continue
        _check_shape(name, tensor, state[name], "")
        if tensor.is_floating_point() and not state[name].is_floating_point():
            raise CheckpointError(
                f"{name} is {state[name].dtype} in the weights; only floating-point weights are loaded"
            )
    for name, tensor in state.items():
        if name not in expected:
            raise CheckpointError(f"{name} is {list(tensor.shape)} in the weights and not in the network; {_REMEDY}")


def _is_cut(backbone: Backbone) -> bool:
    return isinstance(backbone.last, nn.Identity)


def _rename(
    state: Mapping[str, Tensor], layers: Layers, backbone: Backbone, *, contained: bool, cut: bool
) -> dict[str, Tensor]:
    """Their tensors under our names, in their order.

    Trunk layers without a place are left out where ``backbone`` is ``cut``, others where the trunk is ``contained``
    in a larger network.
    """
    names, renamed = dict(layers), {}
    own = {f"backbone.{key}": tensor for key, tensor in backbone.state_dict().items()}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if layer in names:
            name = f"{names[layer]}.{leaf}"
            if name in own:
                _check_shape(name, own[name], tensor, f" ({key} there)")
            renamed[name] = tensor
        elif not (cut if _TRUNK.match(key) else contained):
            raise CheckpointError(
                f"{key} is {list(tensor.shape)} in the weights and is no layer of this backbone"
                f"{_first_without(state, layers, own)}; these weights are of another network"
            )
    return renamed


def _first_without(state: Mapping[str, Tensor], layers: Layers, own: Mapping[str, Tensor]) -> str:
    """Our first layer that the weights do not have, to tell beside one of theirs that we do not have."""
    for theirs, ours in layers:
        if f"{ours}.weight" in own and f"{theirs}.weight" not in state:
            return f", which has {ours.removeprefix('backbone.')}.weight {list(own[f'{ours}.weight'].shape)}"
    return ""


def _check_shape(name: str, own: Tensor, given: Tensor, place: str) -> None:
    if own.shape != given.shape:
        raise CheckpointError(
            f"{name} is {list(own.shape)} in the network and {list(given.shape)} in the weights{place}; {_REMEDY}"
        )


def _is_deeper(key: str, backbone: Backbone) -> bool:
    """Whether one of our layers lies below the deepest that ``backbone`` has."""
    block = re.match(r"blocks\.(\d+)\.", key)
    if block:
        return int(block[1]) >= len(backbone.blocks)
    return key.startswith("last.") and _is_cut(backbone)
