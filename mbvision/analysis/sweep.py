"""The cost of one architecture over widths and resolutions: the half of a trade-off plot that needs no training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mbvision.analysis.complexity import Complexity, count
from mbvision.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One width at one input size (height, width), and its cost."""

    width: float
    input_size: tuple[int, int]
    cost: Complexity


def sweep(
    build: Callable[[float], Network],
    widths: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    measure: Callable[[Network, tuple[int, int]], Complexity] = count,
) -> tuple[SweepPoint, ...]:
    """Every width at every size, widths first; ``build`` gives the network of a width, ``measure`` its cost."""
    points = []
    for width in widths:
        with torch.device("meta"):
            network = build(width)
        points += [SweepPoint(width=width, input_size=size, cost=measure(network, size)) for size in sizes]
    return tuple(points)
