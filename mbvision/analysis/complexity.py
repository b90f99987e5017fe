"""Parameters, multiply-adds and activations of a network, layer by layer, without running it: tensors have no values.

Activations are the values that convolutions and linear layers put out for one image; norms, activation functions and
additions are taken to work in place, and pooling and resizing are left out.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mbvision.analysis.conventions import Convention, find_convention
from mbvision.heads.segmentation import SegmentationOutput

Work = Literal["pointwise", "depthwise", "dense", "linear", "norm", "other"]
"""1x1 convolutions, convolutions of each channel by itself, all other convolutions, linear layers, batch norms, and
what only some conventions charge."""

_SHAPE_KEEPERS = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One layer: its dotted name, its class, its own parameters, and its multiply-adds for one image.

    ``output`` is the shape of what it puts out for one image and ``activations`` the number of its values, ``()`` and
    0 for layers that work in place.
    """

    name: str
    kind: str
    work: Work
    parameters: int
    madds: int
    output: tuple[int, ...] = ()
    activations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Complexity:
    """Every layer that has parameters or costs multiply-adds, in the network's order."""

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """All that the convention counts (running statistics are none)."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def madds(self) -> int:
        """All multiply-adds for one image."""
        return sum(layer.madds for layer in self.layers)

    @property
    def activations(self) -> int:
        """The values that all layers together put out for one image."""
        return sum(layer.activations for layer in self.layers)

    @property
    def largest_activation(self) -> int:
        """The values that the layer with the largest output puts out."""
        return max((layer.activations for layer in self.layers), default=0)


@dataclass(slots=True)
class _Seen:
    """What the hooks find out about a layer."""

    madds: int = 0
    output: tuple[int, ...] = ()
    activations: int = 0


def count(network: nn.Module, input_size: tuple[int, int], convention: str = "plain") -> Complexity:
    """The cost of ``network`` for one image of ``input_size`` (height, width). ``network`` stays as it is.

    ``convention`` is a name of `CONVENTIONS`. The papers state none of theirs; in whichever, a multiply-add is counted
    for every weight of a convolution or linear layer and every place it is applied to. Raises ConfigError.
    """
    rules = find_convention(convention)
    network = copy.deepcopy(network).to("meta").eval()
    names = dict(network.named_modules())
    seen = {name: _Seen() for name in names}

    def watch(name: str) -> Callable[..., None]:
        def add(layer: nn.Module, inputs: Any, output: Any) -> None:
            found = seen[name]
            found.madds += _madds(layer, output, input_size, rules)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                found.output = tuple(output.shape[1:])
                found.activations += output.numel()

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
            work=work_of(layer),
            parameters=_parameters(layer, rules),
            madds=seen[name].madds,
            output=seen[name].output,
            activations=seen[name].activations,
        )
        for name, layer in names.items()
    ]
    return Complexity(layers=tuple(cost for cost in costs if cost.parameters or cost.madds))


def work_of(layer: nn.Module) -> Work:
    """The kind of work that a layer does."""
    if isinstance(layer, nn.Conv2d):
        if layer.groups == layer.in_channels and layer.groups > 1:
            return "depthwise"
        return "pointwise" if max(layer.kernel_size) == 1 and layer.groups == 1 else "dense"
    if isinstance(layer, nn.Linear):
        return "linear"
    return "norm" if isinstance(layer, nn.BatchNorm2d) else "other"


def _unchanged(inputs: Tensor) -> Tensor:
    return inputs


def _parameters(layer: nn.Module, rules: Convention) -> int:
    if isinstance(layer, nn.BatchNorm2d) and not rules.norms:
        return 0
    return sum(parameter.numel() for parameter in layer.parameters(recurse=False))


def _madds(layer: nn.Module, output: Any, input_size: tuple[int, int], rules: Convention) -> int:
    if isinstance(layer, nn.Conv2d):
        sides = output.shape[2:]
        if rules.space_to_batch and max(layer.kernel_size) > 1:
            sides = [-(-side // rate) * rate for side, rate in zip(sides, layer.dilation, strict=True)]
        return layer.weight.numel() * int(sides[0]) * int(sides[1])
    if isinstance(layer, nn.Linear):
        return layer.weight.numel() * output.numel() // layer.out_features
    if isinstance(layer, nn.Hardswish):
        return rules.hard_swish * int(output.numel())
    if rules.upsampling and isinstance(output, SegmentationOutput):
        return int(output.logits.shape[1]) * input_size[0] * input_size[1]
    return 0
