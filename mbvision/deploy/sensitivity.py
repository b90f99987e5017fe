"""What 8 bits in one layer alone do to a network's raw outputs, layer by layer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.backbones.blocks import ConvNormAct, SqueezeExcite
from mbvision.network import Network
from mbvision.quantization import CUTS, WHOLE, Histogram, Range, decibels, rounded, rounded_weights

LEAST, GAP, FEW = 20.0, 10.0, 0.1
"""When a layer stays in float: see `stay_float`. 20 dB are a noise of a hundredth, 10 dB ten times the noise."""
SEEN, MEASURED = 64, 16
"""So many of the calibration pictures give the ranges; so many of these are run once for every layer."""


Take = Callable[[Histogram, Tensor], None]


class LayerNoise(NamedTuple):
    """One layer: signal to noise of the raw outputs in decibels by head, and how many weights it has."""

    layer: str
    decibels: dict[str, float]
    weights: int

    @property
    def worst(self) -> float:
        """Of the heads."""
        return min(self.decibels.values())


class Spans(NamedTuple):
    """What 8 bits span at a layer's input and at its output."""

    inputs: Range
    outputs: Range


def quantisable(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers that can be computed in 8 bits, by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


def cuts(network: nn.Module) -> dict[str, Range]:
    """By name of a layer, what the activation behind it can tell apart; of those that have one behind them."""
    pairs: list[tuple[str, nn.Module]] = []
    for name, module in network.named_modules():
        if isinstance(module, ConvNormAct):
            pairs.append((f"{name}.conv", module.act))
        elif isinstance(module, SqueezeExcite):
            pairs += [(f"{name}.reduce", module.act), (f"{name}.expand", module.gate)]
    return {name: CUTS.get(type(act).__name__.lower(), WHOLE) for name, act in pairs}


@torch.no_grad()
def layer_spans(network: nn.Module, pictures: Sequence[Float[Tensor, "B 3 H W"]]) -> dict[str, Spans]:
    """The ranges of every layer's input and output over the pictures."""
    seen = {name: (Histogram(), Histogram()) for name in quantisable(network)}
    for take in (Histogram.see, Histogram.count):

        def look(name: str, place: int, values: Tensor, take: Take = take) -> None:
            take(seen[name][place], values)

        with _watched(network, look):
            for images in pictures:
                network(images)
    bounds = cuts(network)
    found = {}
    for name, (inputs, outputs) in seen.items():
        found[name] = Spans(inputs.best(), outputs.best().within(*bounds.get(name, WHOLE)))
    return found


@contextmanager
def _watched(network: nn.Module, look: Callable[[str, int, Tensor], None]) -> Iterator[None]:
    """Inside, every layer's input (place 0) and output (place 1) are looked at."""

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            look(name, 0, inputs[0])
            look(name, 1, output)

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in quantisable(network).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def in_8_bits(layer: nn.Conv2d | nn.Linear, spans: Spans) -> Iterator[None]:
    """Inside, one layer computes with rounded weights, inputs and outputs."""
    weights = layer.weight.data
    before = layer.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0], spans.inputs),))
    after = layer.register_forward_hook(lambda _, __, output: rounded(output, spans.outputs))
    layer.weight.data = rounded_weights(weights)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        layer.weight.data = weights


@torch.no_grad()
def sensitivity(network: Network, pictures: Sequence[Float[Tensor, "B 3 H W"]]) -> list[LayerNoise]:
    """The table of a network in evaluation mode with its norms folded, the worst layer first."""
    spans = layer_spans(network, pictures[:SEEN])
    images = torch.cat(list(pictures[:MEASURED]))[:MEASURED]
    wanted = {head: tensors(raw) for head, raw in network(images).items()}
    table = []
    for name, layer in quantisable(network).items():
        with in_8_bits(layer, spans[name]):
            found = {head: tensors(raw) for head, raw in network(images).items()}
        noise = {
            head: min(decibels([own[key]], [found[head][key]]) for key in own if key != "anchors")
            for head, own in wanted.items()
        }
        table.append(LayerNoise(name, noise, layer.weight.numel()))
    return sorted(table, key=lambda row: row.worst)


def tensors(raw: Any) -> dict[str, Tensor]:
    """A head's raw output by name."""
    named: dict[str, Any] = raw._asdict() if hasattr(raw, "_asdict") else {"output": raw}
    return {key: value for key, value in named.items() if isinstance(value, Tensor)}


def stay_float(table: Sequence[LayerNoise]) -> list[str]:
    """The layers that 8 bits would hurt, the worst first.

    Those which leave less than `LEAST` decibels in some head, and those which a gap of more than `GAP` decibels parts
    from all others, if they are no more than a share `FEW` of the layers.
    """
    few = range(1, min(max(int(FEW * len(table)), 1), len(table) - 1) + 1)
    apart = max((place for place in few if table[place].worst - table[place - 1].worst > GAP), default=0)
    return [row.layer for place, row in enumerate(table) if place < apart or row.worst < LEAST]


def format_sensitivity(table: Sequence[LayerNoise], kept: Sequence[str]) -> str:
    """The table as text: decibels by head, the worst layer first, and which layers stay in float."""
    heads = list(table[0].decibels)
    width = max(len(row.layer) for row in table)
    lines = [f"{'layer in 8 bits, alone':<{width}}" + "".join(f"{head:>16}" for head in heads) + f"{'weights':>10}"]
    for row in table:
        cells = "".join(f"{row.decibels[head]:>13.1f} dB" for head in heads)
        lines.append(f"{row.layer:<{width}}{cells}{row.weights:>10}{'  float' if row.layer in kept else ''}")
    return "\n".join(lines)
