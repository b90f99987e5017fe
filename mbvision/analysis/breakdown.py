"""Where a network's cost lies: by stage, by kind of work, and by separable convolution."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast, get_args

from torch import nn

from mbvision.analysis.complexity import Complexity, LayerCost, Work, work_of
from mbvision.backbones.base import Backbone
from mbvision.network import Network

WORK: tuple[Work, ...] = get_args(Work)
"""Every kind of work, in the order that tables and pictures have."""


def by_work(complexity: Complexity) -> dict[Work, Complexity]:
    """The layers of each kind of work that occurs; together they are all layers."""
    return {
        work: Complexity(layers=layers)
        for work in WORK
        if (layers := tuple(layer for layer in complexity.layers if layer.work == work))
    }


def by_stage(network: Network, complexity: Complexity) -> dict[str, Complexity]:
    """The layers of each stage, in the network's order; together they are all layers.

    The stages of a backbone are ``backbone.stem``, then ``backbone.c1`` to ``backbone.c5``, each with the blocks after
    the feature map before it down to the one of its name, then ``backbone.last``. Those of a head are its parts,
    ``heads.NAME.PART``; what belongs to no part is ``heads.NAME``. Elsewhere a stage is the first word of the name.
    """
    blocks = block_stages(network.backbone)
    stages: dict[str, list[LayerCost]] = {}
    for layer in complexity.layers:
        stages.setdefault(_stage_of(layer.name, blocks), []).append(layer)
    return {stage: Complexity(layers=tuple(layers)) for stage, layers in stages.items()}


def block_stages(backbone: Backbone) -> list[str]:
    """``c1`` to ``c5`` for each block of a backbone: the feature map that it works towards."""
    complete = 0 if any(row.tap == "c1" for row in backbone.rows) else 1  # the stem of some is c1 already
    stages = []
    for row in backbone.rows:
        stages.append(f"c{complete + 1}")
        if match := re.fullmatch(r"c(\d)(_blocks)?", row.tap or ""):
            complete = int(match.group(1))
    return stages


def part(complexity: Complexity, name: str) -> Complexity:
    """The layers below one module: ``backbone``, ``heads``, ``heads.detection.extra``."""
    return Complexity(layers=tuple(layer for layer in complexity.layers if f"{layer.name}.".startswith(f"{name}.")))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparableCost:
    """A depthwise convolution, the 1x1 after it, and the full convolution they stand for (arXiv:1704.04861, eq. 5).

    For M channels in, N out, a kernel of k and an output of H x W: k² M H W + M N H W multiply-adds beside
    k² M N H W. Norms, biases and dilation do not enter.
    """

    name: str
    kernel: int
    in_channels: int
    out_channels: int
    output: tuple[int, int]

    @property
    def depthwise_madds(self) -> int:
        """Those of the depthwise convolution."""
        return self.kernel**2 * self.in_channels * self.output[0] * self.output[1]

    @property
    def pointwise_madds(self) -> int:
        """Those of the 1x1."""
        return self.in_channels * self.out_channels * self.output[0] * self.output[1]

    @property
    def dense_madds(self) -> int:
        """Those of one full convolution from the same input to the same output."""
        return self.kernel**2 * self.pointwise_madds

    @property
    def parameters(self) -> int:
        """The weights of both."""
        return (self.kernel**2 + self.out_channels) * self.in_channels

    @property
    def dense_parameters(self) -> int:
        """The weights of the full convolution."""
        return self.kernel**2 * self.in_channels * self.out_channels

    @property
    def ratio(self) -> float:
        """1/N + 1/k²: what of the full convolution's cost is left."""
        return 1 / self.out_channels + 1 / self.kernel**2


def separable_costs(network: nn.Module, complexity: Complexity) -> tuple[SeparableCost, ...]:
    """Every depthwise convolution of ``complexity`` with the 1x1 that follows it.

    A squeeze between the two is stepped over; a depthwise convolution without a 1x1 after it is left out.
    """
    modules = dict(network.named_modules())
    convolutions = [
        layer
        for layer in complexity.layers
        if isinstance(modules.get(layer.name), nn.Conv2d) and ".squeeze." not in layer.name
    ]
    found = []
    for layer, following in pairwise(convolutions):
        depthwise, pointwise = (cast(nn.Conv2d, modules[one.name]) for one in (layer, following))
        joined = work_of(depthwise) == "depthwise" and work_of(pointwise) == "pointwise"
        if joined and pointwise.in_channels == depthwise.out_channels:
            height, width = layer.output[1:]
            found.append(
                SeparableCost(
                    name=_common_name(layer.name, following.name),
                    kernel=depthwise.kernel_size[0],
                    in_channels=depthwise.in_channels,
                    out_channels=pointwise.out_channels,
                    output=(height, width),
                )
            )
    return tuple(found)


def _stage_of(name: str, blocks: list[str]) -> str:
    parts = name.split(".")
    if parts[:2] == ["backbone", "blocks"]:
        return f"backbone.{blocks[int(parts[2])]}"
    return ".".join(parts[: {"backbone": 2, "heads": 3}.get(parts[0], 1)])


def _common_name(*names: str) -> str:
    """The innermost module that holds all of these layers."""
    columns: Iterable[tuple[Any, ...]] = zip(*(name.split(".") for name in names), strict=False)
    common = []
    for column in columns:
        if len(set(column)) > 1:
            break
        common.append(column[0])
    return ".".join(common)
