"""ExecuTorch's files in 8 bits, by torchao's PT2E with XNNPACK's quantiser."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from mbvision.deploy.between import inside, reached
from mbvision.deploy.executorch import lower
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.quantization import CUTS, WHOLE, Histogram, Range, cut

LAYERS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
SMALLEST_STEP = 1e-9
"""XNNPACK's quantiser takes no step of weights under 2^-12, which folded norms often are."""


def quantize(
    network: DeployedNetwork,
    source: Path,
    path: Path,
    *,
    pictures: Sequence[Float[Tensor, "B 3 H W"]],
    keep_float: Collection[str],
    metadata: Mapping[str, str],
) -> None:
    """Write the network in 8 bits; ``keep_float`` are its layers that stay as they are."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    example = pictures[0].contiguous()  # the graph is for this layout
    graph: Any = torch.export.export(network, (example,)).module()
    quantizer = XNNPACKQuantizer().set_global(configuration())
    quantizer.set_filter_function(chosen(graph.graph, keep_float))
    prepared = prepare_pt2e(graph, quantizer)
    find_ranges(prepared, pictures)
    program = torch.export.export(convert_pt2e(prepared), (example,))
    lower(program, path, metadata)


def configuration() -> Any:
    """One range a tensor for activations, one a channel for weights, both the least and the largest value seen."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver

    plain = get_symmetric_quantization_config(is_per_channel=True)
    values = replace(plain.output_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=SMALLEST_STEP))
    weights = replace(plain.weight, observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=SMALLEST_STEP))
    return replace(plain, input_activation=values, output_activation=values, weight=weights)


def chosen(graph: fx.Graph, keep_float: Collection[str]) -> Callable[[fx.Node], bool]:
    """Whether a node may be in 8 bits: the layers that are not kept, and what lies between layers."""
    calls = [node for node in graph.nodes if node.op == "call_function"]
    edges = [(maker.name, node.name) for node in calls for maker in node.all_input_nodes]
    layers = {node.name for node in calls if node.target in LAYERS}
    kept = {node.name for node in calls if node.name in layers and layer_of(node) in keep_float}
    able = inside(layers - kept, edges) - kept
    return lambda node: node.op != "call_function" or node.name in able


def layer_of(node: fx.Node) -> str:
    """The network's name of a node's layer, from the name of its weights."""
    weights = node.args[1]
    assert isinstance(weights, fx.Node)
    return str(weights.target).removeprefix("network.").removesuffix(".weight")


@torch.no_grad()
def find_ranges(prepared: Any, pictures: Sequence[Tensor]) -> None:
    """Give the observers of activations the ranges that lose least, of what the pictures show."""
    places = [node for node in prepared.graph.nodes if node.op == "call_module"]
    observers = {node.name: prepared.get_submodule(node.target) for node in places}
    values = {id(one): one for one in observers.values() if one.qscheme == torch.per_tensor_affine}
    seen = {key: Histogram() for key in values}
    for take in (Histogram.see, Histogram.count):
        handles = [one.register_forward_hook(_watch(take, seen[key])) for key, one in values.items()]
        for images in pictures:
            prepared(images)
        for handle in handles:
            handle.remove()
    ends = last_observers(prepared.graph, places)
    for key, one in values.items():
        own = [node for node in places if id(observers[node.name]) == key]
        span = seen[key].whole() if any(node.name in ends for node in own) else seen[key].best()
        for node in own:  # an activation without weights shares the observer of what comes before it
            span = cut(span, [bounds_of(user) for user in node.users])
        one.min_val.resize_(()).fill_(span.low)
        one.max_val.resize_(()).fill_(span.high)


def _watch(take: Callable[[Histogram, Tensor], None], histogram: Histogram) -> Callable[..., None]:
    return lambda module, inputs, output: take(histogram, inputs[0])


def last_observers(graph: fx.Graph, places: Sequence[fx.Node]) -> set[str]:
    """Those which no other comes after: rare values of a network's outputs are what is looked for in them."""
    edges = [(maker.name, node.name) for node in graph.nodes for maker in node.all_input_nodes]
    layers = {node.name for node in graph.nodes if node.target in LAYERS}
    return {node.name for node in places if not reached([node.name], edges) & layers}


def bounds_of(user: fx.Node) -> Range:
    """What a node can tell apart."""
    name = user.target.__name__.partition(".")[0].rstrip("_") if callable(user.target) else ""
    if name == "hardtanh":
        low, high = (float(str(bound)) for bound in user.args[1:3])
        return Range(low, high)
    return CUTS.get(name, WHOLE)
