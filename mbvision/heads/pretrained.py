"""torchvision's segmentation heads under our names; `mbvision.backbones.pretrained` does the same for their trunk."""

from collections.abc import Mapping

from torch import Tensor

from mbvision.errors import CheckpointError

_LRASPP = {
    "classifier.cbr.0": "project.conv",
    "classifier.cbr.1": "project.norm",
    "classifier.scale.1": "gate_conv",
    "classifier.high_classifier": "high_output",
    "classifier.low_classifier": "low_output",
}
_DEEPLABV3 = {
    **{
        f"classifier.0.convs.{index}.{position}": f"branches.{index}.{ours}"
        for index in range(4)  # a 1x1 and three rates
        for position, ours in enumerate(("conv", "norm"))
    },
    "classifier.0.convs.4.1": "image.conv.conv",
    "classifier.0.convs.4.2": "image.conv.norm",
    "classifier.0.project.0": "project.conv",
    "classifier.0.project.1": "project.norm",
    "classifier.1": "extra.conv",
    "classifier.2": "extra.norm",
    "classifier.4": "output",
    "aux_classifier.0": "auxiliary.conv.conv",
    "aux_classifier.1": "auxiliary.conv.norm",
    "aux_classifier.4": "auxiliary.output",
}


def rename_lraspp(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of torchvision's LR-ASPP under the names of `mbvision.heads.lraspp.LRASPP` in a Network.

    The trunk (``backbone.``) is left out. A name that fits neither raises CheckpointError.
    """
    return _rename(state, _LRASPP, "LR-ASPP")


def rename_deeplabv3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of torchvision's DeepLabV3 under the names of `mbvision.heads.deeplabv3.DeepLabV3` in a Network.

    Its auxiliary head is among them where ``state`` has it. The trunk (``backbone.``) is left out. A name that fits
    neither raises CheckpointError.
    """
    return _rename(state, _DEEPLABV3, "DeepLabV3")


def _rename(state: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if layer in names:
            renamed[f"heads.segmentation.{names[layer]}.{leaf}"] = tensor
        elif not key.startswith("backbone."):
            raise CheckpointError(f"{key} is no layer of torchvision's {what}; these weights are of another network")
    return renamed
