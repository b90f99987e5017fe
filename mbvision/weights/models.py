"""Which model of torchvision or timm a network of ours is: by building ours as theirs is, and comparing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mbvision.backbones.base import Backbone
from mbvision.backbones.mobilenet_v1 import mobilenet_v1
from mbvision.backbones.mobilenet_v2 import mobilenet_v2
from mbvision.backbones.mobilenet_v3 import (
    mobilenet_v3_large,
    mobilenet_v3_large_minimalistic,
    mobilenet_v3_small,
    mobilenet_v3_small_minimalistic,
)
from mbvision.backbones.names import Layers, timm_layers, torchvision_layers
from mbvision.backbones.rows import Activation, make_divisible
from mbvision.errors import CheckpointError
from mbvision.heads.anchors import SSDAnchors
from mbvision.heads.base import Head
from mbvision.heads.classifier import Classifier
from mbvision.heads.deeplabv3 import DeepLabV3
from mbvision.heads.lraspp import LRASPP
from mbvision.heads.pretrained import DEEPLABV3, SSDLITE
from mbvision.heads.pretrained import LRASPP as LRASPP_LAYERS
from mbvision.heads.ssdlite import SSDLite
from mbvision.network import Network
from mbvision.weights.published import Library, published, stem_settings

BACKBONES: Mapping[str, Callable[..., Backbone]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
    "mobilenet_v3_large_minimalistic": mobilenet_v3_large_minimalistic,
    "mobilenet_v3_small_minimalistic": mobilenet_v3_small_minimalistic,
}
HIDDEN = {"mobilenet_v3_large": 1280, "mobilenet_v3_small": 1024}
"""The layer between pool and output: arXiv:1905.02244, tables 1 and 2."""
TIMM_NAMES: Mapping[str, Mapping[float, str]] = {
    "mobilenet_v1": {1.0: "mobilenetv1_100", 1.25: "mobilenetv1_125"},
    "mobilenet_v2": {w: f"mobilenetv2_{round(w * 100):03}" for w in (0.35, 0.5, 0.75, 1.0, 1.4)},
    "mobilenet_v3_large": {0.75: "mobilenetv3_large_075", 1.0: "mobilenetv3_large_100"},
    "mobilenet_v3_small": {w: f"mobilenetv3_small_{round(w * 100):03}" for w in (0.5, 0.75, 1.0)},
    "mobilenet_v3_large_minimalistic": {1.0: "tf_mobilenetv3_large_minimal_100"},
    "mobilenet_v3_small_minimalistic": {1.0: "tf_mobilenetv3_small_minimal_100"},
}
"""timm's models by our architecture and width; it builds no other widths."""
DENSE_TAPS = ("c5", "c3_first")
"""What torchvision's segmenters read: the last layer, and the first block of stride 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of another library: what builds it there, ours that equals it (without memory), and the names."""

    builder: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    network: Network
    layers: Layers

    def call(self) -> str:
        """The Python expression that builds it there."""
        name = f'"{self.builder}"' if "." not in self.builder else None
        given = [f"{key}={value!r}" for key, value in self.arguments.items()]
        if name:
            return f"timm.create_model({', '.join([name, *given])})"
        return f"{self.builder}({', '.join(given)})"


def find_model(network: Network, library: Library, *, architecture: str, width: float) -> Model:
    """The model of ``library`` that ``network`` is; ``architecture`` and ``width`` are those of its backbone.

    Raises `CheckpointError` saying what differs where the library has none.
    """
    if len(network.heads) != 1:
        raise CheckpointError(f"{library} has no model with the heads {', '.join(network.heads)}; it needs exactly one")
    ((_, head),) = network.heads.items()
    with torch.device("meta"):
        model = _candidate(network, head, library, architecture, width)
    if difference := _first_difference(network, model.network):
        raise CheckpointError(f"{library} has no such model: its {model.builder.rpartition('.')[2]} has {difference}")
    return model


def _candidate(network: Network, head: nn.Module, library: Library, architecture: str, width: float) -> Model:
    if library == "timm":
        if not isinstance(head, Classifier):
            raise CheckpointError(f"timm has classifiers only, and the head of this network is {type(head).__name__}")
        return _timm(network, head.output.out_features, architecture, width)
    if not published(library, architecture):
        raise CheckpointError(
            f"torchvision has no {architecture}; it has mobilenet_v2, mobilenet_v3_large and mobilenet_v3_small"
        )
    if isinstance(head, Classifier):
        return _torchvision_classifier(network, head.output.out_features, architecture, width)
    if architecture != "mobilenet_v3_large" or width != 1:
        raise CheckpointError(
            f"torchvision has no {type(head).__name__} on {architecture} of width {width:g}, only on mobilenet_v3_large"
        )
    if isinstance(head, SSDLite):
        return _ssdlite(network, head.num_classes)
    if isinstance(head, LRASPP):
        return _lraspp(head.high_output.out_channels)
    if isinstance(head, DeepLabV3):
        return _deeplabv3(head.output.out_channels, head.auxiliary is not None)
    raise CheckpointError(f"torchvision has no model with a head like {type(head).__name__}")


def _timm(network: Network, num_classes: int, architecture: str, width: float) -> Model:
    names = TIMM_NAMES.get(architecture, {})
    if width not in names:
        widths = ", ".join(f"{known:g}" for known in names) or "none"
        raise CheckpointError(f"timm has no {architecture} of width {width:g}; its widths are {widths}")
    eps, padding = stem_settings(network.backbone)
    name, arguments = names[width], {"num_classes": num_classes}
    usual = (1e-3, "same") if name.startswith("tf_") else (1e-5, "symmetric")
    if (eps, padding) == (1e-3, "same") and architecture.startswith("mobilenet_v3") and width >= 0.75:
        name, usual = f"tf_{name.removeprefix('tf_')}", (eps, padding)
    options: dict[str, Any] = {} if eps == usual[0] else {"bn_eps": eps}
    options |= {} if padding == usual[1] else {"pad_type": "same" if padding == "same" else ""}
    rule: dict[str, Any] = {"width_rule": "timm"} if architecture in HIDDEN else {}
    backbone = BACKBONES[architecture](taps=["c5"], width=width, norm_eps=eps, padding=padding, **rule)
    built = _classifier(backbone, num_classes, HIDDEN.get(architecture.removesuffix("_minimalistic")), architecture)
    layers = timm_layers(backbone, len(backbone.blocks))
    return Model(builder=name, arguments=arguments | options, network=built, layers=layers)


def _torchvision_classifier(network: Network, num_classes: int, architecture: str, width: float) -> Model:
    arguments: dict[str, Any] = {"num_classes": num_classes} | ({} if width == 1 else {"width_mult": width})
    hidden = None
    if architecture == "mobilenet_v2":
        backbone: Backbone = mobilenet_v2(taps=["c5"], width=width)
    else:
        backbone = BACKBONES[architecture](taps=["c5"], width=width, width_rule="absolute")
        hidden = make_divisible(HIDDEN[architecture] * width)
    return Model(
        builder=f"torchvision.models.{architecture}",
        arguments=arguments,
        network=_classifier(backbone, num_classes, hidden, architecture),
        layers=torchvision_layers(backbone, "v2" if hidden is None else "v3"),
    )


def _classifier(backbone: Backbone, num_classes: int, hidden: int | None, architecture: str) -> Network:
    activation: Activation = "relu" if architecture.endswith("minimalistic") else "hardswish"
    head = Classifier(features=backbone.features, num_classes=num_classes, hidden=hidden, activation=activation)
    return _network(backbone, {"classification": head})


def _ssdlite(network: Network, num_classes: int) -> Model:
    taps = ["c4_expanded", "c5"]
    backbone = mobilenet_v3_large(taps=taps, reduced_tail=True)
    anchors = SSDAnchors(layout="torchvision")
    head = SSDLite(features=backbone.features, num_classes=num_classes, taps=taps, anchors=anchors)
    arguments: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": num_classes + 1}
    for key, values in (("image_mean", network.mean), ("image_std", network.std)):
        given = [round(value, 6) for value in values.flatten().tolist()]
        arguments |= {} if given == [0.5] * 3 else {key: given}
    return Model(
        builder="torchvision.models.detection.ssdlite320_mobilenet_v3_large",
        arguments=arguments,
        network=_network(backbone, {"detection": head}),
        layers=torchvision_layers(backbone, "v3", "detector") + SSDLITE,
    )


def _lraspp(num_classes: int) -> Model:
    backbone = _dense_backbone()
    head = LRASPP(features=backbone.features, num_classes=num_classes, taps=DENSE_TAPS, pool="global", gate_bias=False)
    return _segmenter("lraspp", backbone, head, LRASPP_LAYERS, {"num_classes": num_classes})


def _deeplabv3(num_classes: int, auxiliary: bool) -> Model:
    backbone = _dense_backbone()
    taps = DENSE_TAPS if auxiliary else DENSE_TAPS[:1]
    head = DeepLabV3(
        features=backbone.features, num_classes=num_classes, taps=taps, rates=(12, 24, 36), extra_conv=True
    )
    arguments = {"num_classes": num_classes, "aux_loss": auxiliary}
    return _segmenter("deeplabv3", backbone, head, DEEPLABV3, arguments)


def _dense_backbone() -> Backbone:
    return mobilenet_v3_large(taps=DENSE_TAPS, output_stride=16, dilation_rule="torchvision")


def _segmenter(name: str, backbone: Backbone, head: Head, layers: Layers, arguments: dict[str, Any]) -> Model:
    return Model(
        builder=f"torchvision.models.segmentation.{name}_mobilenet_v3_large",
        arguments={"weights": None, "weights_backbone": None, **arguments},
        network=_network(backbone, {"segmentation": head}),
        layers=torchvision_layers(backbone, "v3", "segmenter") + layers,
    )


def _network(backbone: Backbone, heads: Mapping[str, Head]) -> Network:
    return Network(backbone=backbone, heads=heads, mean=(0.0,) * 3, std=(1.0,) * 3)


def _first_difference(ours: Network, theirs: Network) -> str | None:
    """The first layer that differs in kind, shape, padding, stride, dilation or epsilon; None where none does."""
    one, other = ({name: _described(part) for name, part in net.named_modules()} for net in (ours, theirs))
    for name in [*one, *(extra for extra in other if extra not in one)]:
        a, b = one.get(name, "nothing"), other.get(name, "nothing")
        if a != b:
            return f"{b} where this network has {a} ({name})"
    return None


def _described(module: nn.Module) -> str:
    """What a layer computes when it is not training."""
    if isinstance(module, nn.BatchNorm2d):
        return f"BatchNorm2d({module.num_features}, eps={module.eps:g})"
    if isinstance(module, nn.Dropout):
        return "Dropout"
    taps = f"taps={list(module.taps)}" if isinstance(module, Head) else ""
    return f"{type(module).__name__}({module.extra_repr()}{taps})"
