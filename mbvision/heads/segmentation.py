"""What the segmentation heads share: their output, the check of their arguments, resizing, the auxiliary head.

Logits are coarse: ``h`` and ``w`` are those of a feature map, and they span the whole input. Weights start as torch's
layers make them, as in torchvision: the backbones' start, Kaiming normal over the outputs, saturates LR-ASPP's gate,
and with narrow logits (0.01) a batch is learnt by heart half as fast.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mbvision.backbones.base import FeatureSpec, check_taps
from mbvision.backbones.blocks import ConvNormAct
from mbvision.errors import ConfigError
from mbvision.structures import IGNORE

AUXILIARY_DROPOUT = 0.1
"""torchvision's FCN head."""


class SegmentationOutput(NamedTuple):
    """Raw outputs of a segmentation head; ``auxiliary`` is for training alone, None where there is no such head."""

    logits: Float[Tensor, "B C h w"]
    auxiliary: Float[Tensor, "B C h2 w2"] | None


def check_arguments(
    *, features: Mapping[str, FeatureSpec], taps: Sequence[str], roles: str, num_classes: int, filters: int
) -> None:
    """Raise ConfigError for taps the backbone lacks and numbers out of range; ``roles`` says what the taps are for."""
    check_taps(taps, features)
    if not 1 <= num_classes < IGNORE:
        raise ConfigError(f"num_classes is {num_classes!r}; a segmenter takes 1 to {IGNORE - 1}, background among them")
    if filters < 1:
        raise ConfigError(f"heads.segmentation.filters is {filters!r}; give a width of at least 1")
    if not taps:
        raise ConfigError(f"heads.segmentation.taps is empty; name {roles}")


def resize(maps: Float[Tensor, "B C h w"], size: Sequence[int]) -> Float[Tensor, "B C H W"]:
    """Bilinear, with the corners of pixels aligned (``align_corners=False``), as torchvision does.

    TensorFlow's DeepLab aligns the centres of the corner pixels instead.
    """
    return functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


class AuxiliaryHead(nn.Module):
    """Logits from a shallower tap that help training: 3x3 to a quarter of the channels, dropout, 1x1 (torchvision)."""

    def __init__(self, channels: int, num_classes: int, *, norm_momentum: float) -> None:
        super().__init__()
        between = max(channels // 4, 1)
        self.conv = ConvNormAct(channels, between, activation="relu", kernel=3, norm_momentum=norm_momentum)
        self.dropout = nn.Dropout(AUXILIARY_DROPOUT)
        self.output = nn.Conv2d(between, num_classes, 1)

    def forward(self, inputs: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C h w"]:
        """Logits as coarse as the tap."""
        return self.output(self.dropout(self.conv(inputs)))
