"""What published weights were trained with and their files do not say: padding, BN epsilon, normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from mbvision.backbones.base import Backbone
from mbvision.backbones.blocks import ConvNormAct, Padding, SamePad
from mbvision.errors import CheckpointError
from mbvision.network import Network

Library = Literal["torchvision", "timm"]
Triple = tuple[float, float, float]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's classifiers were trained with: torchvision.transforms._presets.ImageClassification."""
HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of TensorFlow's weights, of timm's V1, and of torchvision's SSDLite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How some published weights want to be run, and what they are called."""

    whose: str
    variant: str
    norm_eps: float
    padding: Padding
    mean: Triple
    std: Triple


def published(library: Library, architecture: str, *, detector: bool = False) -> tuple[Settings, ...]:
    """All settings under which a library publishes weights of an architecture of ours (``mobilenet_v3_large``).

    Sources: torchvision's model constructors and weight enumerations, timm's model definitions and their
    ``default_cfgs``. The first one is the usual one; none for an architecture that the library has not.
    """
    v3, minimal = architecture.startswith("mobilenet_v3"), architecture.endswith("minimalistic")
    if library == "torchvision":
        if architecture == "mobilenet_v1" or minimal:
            return ()
        mean, std = (HALF, HALF) if detector else (IMAGENET_MEAN, IMAGENET_STD)
        return (_settings("torchvision's", "torchvision", 1e-3 if v3 else 1e-5, "symmetric", mean, std),)
    tensorflow = _settings("timm's tf_", "tensorflow", 1e-3, "same", HALF, HALF)
    if minimal:
        return (tensorflow,)
    if architecture == "mobilenet_v1":
        return (_settings("timm's", "timm", 1e-5, "symmetric", HALF, HALF),)
    native = _settings("timm's", "timm", 1e-5, "symmetric", IMAGENET_MEAN, IMAGENET_STD)
    if not v3:
        return (native,)
    if architecture == "mobilenet_v3_small":
        return (native, tensorflow)
    ra4 = _settings("timm's ra4", "timm", 1e-5, "symmetric", HALF, HALF)
    miil = _settings("timm's miil", "timm", 1e-5, "symmetric", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return (native, ra4, miil, tensorflow)


def _settings(whose: str, variant: str, norm_eps: float, padding: Padding, mean: Triple, std: Triple) -> Settings:
    return Settings(whose=whose, variant=variant, norm_eps=norm_eps, padding=padding, mean=mean, std=std)


def stem_settings(backbone: Backbone) -> tuple[float, Padding]:
    """BN epsilon and padding of a backbone, as its stem has them."""
    stem = backbone.stem
    assert isinstance(stem, ConvNormAct) and isinstance(stem.norm, torch.nn.BatchNorm2d)
    return stem.norm.eps, "same" if isinstance(stem.pad, SamePad) else "symmetric"


def fitting_settings(network: Network, choices: Sequence[Settings]) -> list[Settings]:
    """Those of ``choices`` that ``network`` runs under; the one with its normalisation first.

    Raises `CheckpointError` naming the keys to set where there is none.
    """
    eps, padding = stem_settings(network.backbone)
    found = [one for one in choices if (one.norm_eps, one.padding) == (eps, padding)]
    if choices and not found:
        wanted: dict[str, str] = {}  # the usual weights before others with the same keys
        for one in choices:
            keys = f"backbone.norm_eps={one.norm_eps:g} backbone.padding={one.padding}"
            wanted.setdefault(keys, f"{keys} for {one.whose} weights (variant={one.variant})")
        raise CheckpointError(
            f"the weights do not say their BN epsilon and padding, and no published ones have this network's"
            f" norm_eps={eps:g} padding={padding}: set {', or '.join(wanted.values())};"
            " published_weights=false where they were trained otherwise"
        )
    own = network.mean.flatten(), network.std.flatten()
    return sorted(found, key=lambda one: not _same(own, one))


def _same(own: tuple[torch.Tensor, torch.Tensor], one: Settings) -> bool:
    return all(torch.allclose(a, torch.tensor(b).to(a)) for a, b in zip(own, (one.mean, one.std), strict=True))
