"""torchvision's detection and segmentation heads under our names; `mbvision.backbones.names` has those of trunks.

Each list is in the order of torchvision's state dict and is read both ways.
"""

from collections.abc import Mapping

from torch import Tensor

from mbvision.backbones.names import Layers
from mbvision.errors import CheckpointError

SSDLITE: Layers = [
    (f"backbone.extra.{level}.{index}.{number}", f"heads.detection.extra.{level}.{index}.{part}")
    for level in range(4)
    for index in range(3)  # 1x1, depthwise, 1x1
    for number, part in enumerate(("conv", "norm"))
] + [
    (f"head.{theirs}_head.module_list.{level}.{number}", f"heads.detection.{ours}_predictors.{level}.{part}")
    for theirs, ours in (("classification", "class"), ("regression", "box"))
    for level in range(6)
    for number, part in (("0.0", "0.conv"), ("0.1", "0.norm"), ("1", "1"))
]
LRASPP: Layers = [
    ("classifier.cbr.0", "heads.segmentation.project.conv"),
    ("classifier.cbr.1", "heads.segmentation.project.norm"),
    ("classifier.scale.1", "heads.segmentation.gate_conv"),
    ("classifier.low_classifier", "heads.segmentation.low_output"),
    ("classifier.high_classifier", "heads.segmentation.high_output"),
]
DEEPLABV3: Layers = [
    (f"classifier.0.convs.{branch}.{number}", f"heads.segmentation.branches.{branch}.{part}")
    for branch in range(4)  # a 1x1 and three rates
    for number, part in enumerate(("conv", "norm"))
] + [
    ("classifier.0.convs.4.1", "heads.segmentation.image.conv.conv"),
    ("classifier.0.convs.4.2", "heads.segmentation.image.conv.norm"),
    ("classifier.0.project.0", "heads.segmentation.project.conv"),
    ("classifier.0.project.1", "heads.segmentation.project.norm"),
    ("classifier.1", "heads.segmentation.extra.conv"),
    ("classifier.2", "heads.segmentation.extra.norm"),
    ("classifier.4", "heads.segmentation.output"),
    ("aux_classifier.0", "heads.segmentation.auxiliary.conv.conv"),
    ("aux_classifier.1", "heads.segmentation.auxiliary.conv.norm"),
    ("aux_classifier.4", "heads.segmentation.auxiliary.output"),
]


def rename_ssdlite(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of torchvision's SSDLite, extra layers and predictors, under the names of `mbvision.heads.ssdlite`.

    The trunk (``backbone.features.``) is left out. A name that fits neither raises CheckpointError.
    """
    return _rename(state, SSDLITE, "SSDLite", "backbone.features.")


def rename_lraspp(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of torchvision's LR-ASPP under the names of `mbvision.heads.lraspp.LRASPP` in a Network.

    The trunk (``backbone.``) is left out. A name that fits neither raises CheckpointError.
    """
    return _rename(state, LRASPP, "LR-ASPP", "backbone.")


def rename_deeplabv3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of torchvision's DeepLabV3 under the names of `mbvision.heads.deeplabv3.DeepLabV3` in a Network.

    Its auxiliary head is among them where ``state`` has it. The trunk (``backbone.``) is left out. A name that fits
    neither raises CheckpointError.
    """
    return _rename(state, DEEPLABV3, "DeepLabV3", "backbone.")


def _rename(state: Mapping[str, Tensor], layers: Layers, what: str, trunk: str) -> dict[str, Tensor]:
    names, renamed = dict(layers), {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if layer in names:
            renamed[f"{names[layer]}.{leaf}"] = tensor
        elif not key.startswith(trunk):
            raise CheckpointError(f"{key} is no layer of torchvision's {what}; these weights are of another network")
    return renamed
