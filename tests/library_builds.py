"""The 27 networks of torchvision and timm that are ours too: the overrides that build each, and the rule of fill."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional

from mbvision.build import build_network
from mbvision.commands.compose import conf_folder
from mbvision.network import Network
from mbvision.weights import find_model
from mbvision.weights.models import Model

DOCUMENT = json.loads((Path(__file__).parent / "data" / "library_builds.json").read_text())
BUILDS: dict[tuple[str, str], dict[str, Any]] = {
    (library, name): facts for library, builds in DOCUMENT["builds"].items() for name, facts in builds.items()
}
V1, V2 = "backbone=mobilenet_v1", "backbone=mobilenet_v2"
LARGE, SMALL = "backbone=mobilenet_v3_large", "backbone=mobilenet_v3_small"
DENSE = [LARGE, "variant=torchvision", "output_stride=16", "backbone.dilation_rule=torchvision"]
ABSOLUTE = "backbone.width_rule=absolute"
OVERRIDES: dict[str, list[str]] = {
    "mobilenet_v2": [V2, "variant=torchvision"],
    "mobilenet_v2_x0.5": [V2, "variant=torchvision", "backbone.width=0.5"],
    "mobilenet_v3_large": [LARGE, "variant=torchvision"],
    "mobilenet_v3_small": [SMALL, "variant=torchvision"],
    "mobilenet_v3_large_x0.75": [LARGE, "variant=torchvision", "backbone.width=0.75", ABSOLUTE],
    "lraspp_mobilenet_v3_large": [*DENSE, "task=lraspp_torchvision"],
    "deeplabv3_mobilenet_v3_large": [*DENSE, "task=deeplabv3_torchvision", "heads.segmentation.taps=[c5]"],
    "deeplabv3_mobilenet_v3_large_aux": [*DENSE, "task=deeplabv3_torchvision"],
    "ssdlite320_mobilenet_v3_large": [LARGE, "task=ssdlite_torchvision", "backbone.reduced_tail=true"],
    "mobilenetv1_100": [V1],
    "mobilenetv1_125": [V1, "backbone.width=1.25"],
    **{f"mobilenetv2_{w:03}": [V2, "variant=timm", f"backbone.width={w / 100}"] for w in (35, 50, 75, 100, 140)},
    **{f"mobilenetv3_large_{w:03}": [LARGE, "variant=timm", f"backbone.width={w / 100}"] for w in (75, 100)},
    "mobilenetv3_small_050": [SMALL, "variant=timm", "backbone.width=0.5", "backbone.width_rule=timm"],
    **{f"mobilenetv3_small_{w:03}": [SMALL, "variant=timm", f"backbone.width={w / 100}"] for w in (75, 100)},
    **{f"tf_mobilenetv3_large_{w:03}": [LARGE, "variant=tensorflow", f"backbone.width={w / 100}"] for w in (75, 100)},
    **{f"tf_mobilenetv3_small_{w:03}": [SMALL, "variant=tensorflow", f"backbone.width={w / 100}"] for w in (75, 100)},
    "tf_mobilenetv3_large_minimal_100": [f"{LARGE}_minimalistic", "variant=tensorflow"],
    "tf_mobilenetv3_small_minimal_100": [f"{SMALL}_minimalistic", "variant=tensorflow"],
}
HIDDEN = {"mobilenet_v3_large": 1280, "mobilenet_v3_small": 1024}
CLASSES = {"classification": 1000, "segmentation": 21, "detection": 90}


@functools.cache
def our_config(name: str) -> dict[str, Any]:
    """Our configuration of a build, with a classifier where it has no other head.

    Merged from the files under conf/ without Hydra, which is slow; a test holds the two together.
    """
    chosen = dict(override.partition("=")[::2] for override in OVERRIDES[name])
    parts: list[Any] = [{"output_stride": 32, "normalize": {"mean": [0.5] * 3, "std": [0.5] * 3}}]
    for group in ("backbone", "variant", "task"):
        if group in chosen:
            part = OmegaConf.load(conf_folder() / group / f"{chosen.pop(group)}.yaml")
            parts.append({group: part} if group == "backbone" else part)
    parts.append(OmegaConf.from_dotlist([f"{key}={value}" for key, value in chosen.items()]))
    config: Any = OmegaConf.to_container(OmegaConf.merge(*parts), resolve=True)
    if "heads" not in config:
        architecture = architecture_of(name).removesuffix("_minimalistic")
        hidden = 960 if name == "mobilenet_v3_large_x0.75" else HIDDEN.get(architecture)
        activation = "relu" if "minimal" in name else "hardswish"
        target = "mbvision.heads.classifier.Classifier"
        head = {"_target_": target, "taps": ["c5"], "hidden": hidden, "activation": activation}
        config |= {"heads": {"classification": head}, "tasks": {}}
    return dict(config)


def architecture_of(name: str) -> str:
    return next(one for one in OVERRIDES[name] if one.startswith("backbone=")).partition("=")[2]


def our_network(name: str, classes: int | None = None) -> Network:
    """Ours, in eval mode; its weights are zero but for the normalisation."""
    config = our_config(name)
    with blank():
        network = build_network(config, {head: classes or CLASSES[head] for head in config["heads"]})
    network.eval().mean.copy_(torch.tensor(config["normalize"]["mean"]).view(1, 3, 1, 1))
    network.std.copy_(torch.tensor(config["normalize"]["std"]).view(1, 3, 1, 1))
    return network


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """No random start for what is built here: that takes longer than the tests."""
    kept = {name: getattr(Tensor, name) for name in ("normal_", "uniform_")}
    for name in kept:
        setattr(Tensor, name, lambda self, *_, **__: self.zero_())
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(Tensor, name, method)


@functools.cache
def their_model(library: Any, name: str) -> Model:
    """What the exporter finds for our network of a build."""
    width = our_config(name)["backbone"]["width"]
    with blank():
        return find_model(our_network(name), library, architecture=architecture_of(name), width=width)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and shapes in order, by the rule in the data file."""
    return hashlib.sha256("\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items()).encode()).hexdigest()


def hashed(count: int, index: int) -> Tensor:
    """``count`` numbers in -1..1 that depend on ``index`` alone, float64, by the rule in the data file."""
    h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32((index * 40503 + 12345) % 2**32)
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)  # modulo 2^32
    return torch.from_numpy((h ^ (h >> np.uint32(16))).astype(np.float64) / 2**31 - 1)


def filled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the values of the rule in the data file, float64."""
    values = {}
    places = {key: index for index, key in enumerate(sorted(state))}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            values[key] = torch.zeros_like(tensor)
            continue
        v = hashed(tensor.numel(), places[key]).reshape(tensor.shape)
        if key.endswith("running_mean"):
            values[key] = 0.1 * v
        elif key.endswith("running_var"):
            values[key] = 0.9 + 0.2 * v.abs()
        elif tensor.dim() > 1:
            values[key] = v * (6 / (tensor.numel() // tensor.shape[0])) ** 0.5
        else:
            values[key] = 1 + 0.1 * v if key.endswith("weight") else 0.1 * v
    return values


@torch.no_grad()
def outputs(network: Network, images: Tensor) -> dict[str, Tensor]:
    """What the other library calls its outputs; ``images`` are normalised already."""
    features = network.backbone(images)
    ((kind, head),) = network.heads.items()
    out: Any = head(features)
    if kind == "classification":
        return {"": out}
    if kind == "detection":
        return {"bbox_regression": out.deltas, "cls_logits": out.logits}
    size = tuple(images.shape[-2:])
    maps = {"out": out.logits} | ({} if out.auxiliary is None else {"aux": out.auxiliary})
    return {
        name: functional.interpolate(logits, size, mode="bilinear", align_corners=False)
        for name, logits in maps.items()
    }
