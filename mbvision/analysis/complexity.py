"""Parameters and multiply-adds of a network, layer by layer, without running it: tensors have shapes and no values."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mbvision.errors import ConfigError
from mbvision.heads.segmentation import SegmentationOutput

Convention = Literal["plain", "paper"]

_SHAPE_KEEPERS = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One layer: its dotted name, its class, its own parameters, and its multiply-adds for one image."""

    name: str
    kind: str
    parameters: int
    madds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Complexity:
    """Every layer that has parameters or costs multiply-adds, in the network's order."""

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """All of them, norms' scales and shifts among them (running statistics are none)."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def norm_parameters(self) -> int:
        """Those of batch norms, which the papers' tables of classifiers and detectors leave out."""
        return sum(layer.parameters for layer in self.layers if layer.kind == "BatchNorm2d")

    @property
    def madds(self) -> int:
        """All multiply-adds for one image."""
        return sum(layer.madds for layer in self.layers)


def count(network: nn.Module, input_size: tuple[int, int], convention: Convention = "plain") -> Complexity:
    """The cost of ``network`` for one image of ``input_size`` (height, width). ``network`` stays as it is.

    ``plain`` counts a multiply-add for every weight of a convolution or linear layer and every place it is applied
    to, nothing else. ``paper`` adds what reproduces the segmentation tables of arXiv:1801.04381 (table 7) and
    arXiv:1905.02244 (tables 7, 8), which do not state what they count: a dilated convolution costs what it would on
    a map whose sides are multiples of its rate (TensorFlow's space-to-batch), an element of the logits upsampled to
    the input costs 1, and one of a hard swish 2. The SSDLite table of arXiv:1905.02244 fits it too; the papers' tables
    of classifiers are plain.
    """
    if convention not in ("plain", "paper"):
        raise ConfigError(f"convention is {convention!r}; choose plain or paper")
    network = copy.deepcopy(network).to("meta").eval()
    names = dict(network.named_modules())
    madds = dict.fromkeys(names, 0)

    def watch(name: str) -> Callable[..., None]:
        def add(layer: nn.Module, inputs: Any, output: Any) -> None:
            madds[name] += _madds(layer, output, input_size, convention)

        return add

    for name, layer in names.items():
        if isinstance(layer, _SHAPE_KEEPERS):
            # most of the time would go into finding out that their shapes stay
            # (on a copy that is thrown away, which is why a method may be replaced)
            layer.forward = _unchanged  # type: ignore[method-assign, assignment]
        layer.register_forward_hook(watch(name))
    with torch.no_grad():
        network(torch.empty(1, 3, *input_size, device="meta"))
    costs = [
        LayerCost(
            name=name,
            kind=type(layer).__name__,
            parameters=sum(parameter.numel() for parameter in layer.parameters(recurse=False)),
            madds=madds[name],
        )
        for name, layer in names.items()
    ]
    return Complexity(layers=tuple(cost for cost in costs if cost.parameters or cost.madds))


def _unchanged(inputs: Tensor) -> Tensor:
    return inputs


def _madds(layer: nn.Module, output: Any, input_size: tuple[int, int], convention: Convention) -> int:
    if isinstance(layer, nn.Conv2d):
        sides = output.shape[2:]
        if convention == "paper" and max(layer.kernel_size) > 1:
            sides = [-(-side // rate) * rate for side, rate in zip(sides, layer.dilation, strict=True)]
        return layer.weight.numel() * int(sides[0]) * int(sides[1])
    if isinstance(layer, nn.Linear):
        return layer.weight.numel() * output.numel() // layer.out_features
    if convention == "paper" and isinstance(layer, nn.Hardswish):
        return 2 * int(output.numel())
    if convention == "paper" and isinstance(output, SegmentationOutput):
        return int(output.logits.shape[1]) * input_size[0] * input_size[1]
    return 0
