"""OpenVINO's files in 8 bits, by nncf."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mbvision.deploy.between import inside
from mbvision.deploy.openvino import SECTION
from mbvision.deploy.sensitivity import quantisable
from mbvision.deploy.wrap import DeployedNetwork

LAYERS = ("Convolution", "GroupConvolution", "MatMul")
OUTSIDE = ("Constant", "Parameter", "Result")
"""What computes nothing."""


def quantize(
    network: DeployedNetwork,
    source: Path,
    path: Path,
    *,
    pictures: Sequence[Float[Tensor, "B 3 H W"]],
    keep_float: Collection[str],
    metadata: Mapping[str, str],
) -> None:
    """Write the float file ``source`` in 8 bits; ``keep_float`` are layers of the network that stay as they are."""
    import nncf
    import openvino

    nncf.set_log_level(logging.WARNING)  # else a line for every operation that is left alone
    model = openvino.Core().read_model(source)
    ignored = left_alone(model, network, keep_float)
    quantized = nncf.quantize(
        model,
        nncf.Dataset([images.numpy() for images in pictures]),
        preset=nncf.QuantizationPreset.MIXED,  # activations need not be the same on both sides of 0
        subset_size=len(pictures),
        ignored_scope=nncf.IgnoredScope(names=ignored),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # 7 bits for weights: more overflow in the 16-bit sums of processors without VNNI
            overflow_fix=nncf.OverflowFix.ENABLE,
        ),
    )
    for key, value in metadata.items():
        quantized.set_rt_info(value, [SECTION, key])
    slim(quantized)
    openvino.save_model(quantized, path, compress_to_fp16=False)
    path.write_text(brief(path.read_text(encoding="utf-8")), encoding="utf-8")


def left_alone(model: Any, network: DeployedNetwork, keep_float: Collection[str]) -> list[str]:
    """The names of operations that stay in float: layers that are kept, and what does not lie between layers."""
    operations = model.get_ordered_ops()
    edges = [
        (source.get_node().get_friendly_name(), one.get_friendly_name())
        for one in operations
        for source in one.input_values()
    ]
    kept = {
        as_bytes(layer.weight.numpy()) for name, layer in quantisable(network.network).items() if name in keep_float
    }
    layers = {one.get_friendly_name(): weights_of(one) for one in operations if one.get_type_name() in LAYERS}
    chosen = {name for name, weights in layers.items() if weights not in kept}
    between = inside(chosen, edges) - (set(layers) - chosen)
    names = [one.get_friendly_name() for one in operations if one.get_type_name() not in OUTSIDE]
    return [name for name in names if name not in between]


def weights_of(layer: Any) -> bytes:
    """What tells a layer from others: its weights."""
    return as_bytes(layer.input_value(1).get_node().data)


def as_bytes(weights: np.ndarray) -> bytes:
    """Their values alone: how they are laid out in axes differs from the network's."""
    return np.ascontiguousarray(weights, dtype=np.float32).tobytes()


def slim(model: Any) -> None:
    """Take out what no runtime needs: names of tensors inside, and bounds of ranges that are there twice."""
    results = {name for output in model.outputs for name in output.get_names()}
    for one in model.get_ordered_ops():
        for output in one.outputs():
            if not output.get_names() & results and one.get_type_name() != "Parameter":
                output.get_tensor().set_names(set())
        if one.get_type_name() == "FakeQuantize":
            for bound, again in ((1, 3), (2, 4)):
                first, second = one.input_value(bound).get_node(), one.input_value(again).get_node()
                if np.array_equal(first.data, second.data):
                    one.input(again).replace_source_output(one.input_value(bound))


def brief(graph: str) -> str:
    """The text of a graph without blanks, and without the shapes between operations, which its reader works out."""
    tags = re.sub(r">\s+<", "><", graph)
    return re.sub(r"(<port [^>]*[^/>])></port>", r"\1/>", re.sub(r"<dim>-?\d+</dim>", "", tags))
