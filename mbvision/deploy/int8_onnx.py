"""ONNX files in 8 bits: ONNX Runtime's static quantisation (QDQ) with ranges found by `mbvision.quantization`."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbvision.deploy.between import inside, reached
from mbvision.deploy.runtime import import_onnxruntime
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.quantization import CUTS, WHOLE, Histogram, Range, cut

LAYERS = ("Conv", "Gemm", "MatMul")
BETWEEN = ("Add", "Mul", "Relu", "Clip", "AveragePool", "MaxPool", "Resize", "Concat", "Reshape", "Flatten", "Squeeze")
"""What is computed in 8 bits where it lies between two layers; all else stays in float."""


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
    import_onnxruntime("quantize=int8")
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="mbvision-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)  # the exporter folded all
        model = onnx.load(prepared)
    nodes = chosen_nodes(model.graph, keep_float)
    ranges = find_ranges(model, nodes, pictures)
    quantize_static(
        model,
        path,
        OnePicture(pictures[0].numpy()),  # the ranges below are those of all pictures
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,  # 7 bits for weights: more overflow in the 16-bit sums of processors without VNNI
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=[node.name for node in nodes],
        op_types_to_quantize=sorted({node.op_type for node in nodes}),
        extra_options={
            "TensorQuantOverrides": {
                name: [{"rmin": np.float32(span.low), "rmax": np.float32(span.high)}] for name, span in ranges.items()
            }
        },
    )
    slim(path, metadata)


class OnePicture:
    """What ``quantize_static`` reads its pictures from."""

    def __init__(self, images: np.ndarray) -> None:
        self.left = [{"images": images}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one; None at the end."""
        return self.left.pop() if self.left else None


def chosen_nodes(graph: Any, keep_float: Collection[str]) -> list[Any]:
    """The layers that are not kept, and what lies between them."""
    makers = {name: node.name for node in graph.node for name in node.output}
    edges = [(makers[name], node.name) for node in graph.node for name in node.input if name in makers]
    layers = {node.name for node in graph.node if node.op_type in LAYERS and layer_of(node) not in keep_float}
    between = inside(layers, edges)
    return [node for node in graph.node if node.name in layers or (node.name in between and node.op_type in BETWEEN)]


def layer_of(node: Any) -> str:
    """The network's name of a node's layer, which the exporter leaves in the name of its weights."""
    name: str = node.input[1]
    return name.removeprefix("network.").removesuffix(".weight")


def find_ranges(model: Any, nodes: Sequence[Any], pictures: Sequence[Tensor]) -> dict[str, Range]:
    """The range of every tensor that the nodes read or write, by name."""
    import onnx

    onnxruntime = import_onnxruntime("quantize=int8")
    constants = {one.name for one in model.graph.initializer} | {""}
    names = sorted({name for node in nodes for name in (*node.input, *node.output)} - constants)
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    ours = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in ours)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen = {name: Histogram() for name in names}
    for take in (Histogram.see, Histogram.count):
        for images in pictures:
            for name, values in zip(names, session.run(names, {"images": images.numpy()}), strict=True):
                take(seen[name], torch.from_numpy(values))
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    ends = last_tensors(names, users, {node.name for node in nodes})
    bounds = {name: [CUTS.get(node.op_type.lower(), WHOLE) for node in users.get(name, [])] for name in names}
    return {name: cut(one.whole() if name in ends else one.best(), bounds[name]) for name, one in seen.items()}


def last_tensors(names: Sequence[str], users: Mapping[str, Sequence[Any]], chosen: Collection[str]) -> set[str]:
    """Those which no chosen node comes after: rare values of a network's outputs are what is looked for in them."""
    edges = [
        (node.name, user.name)
        for nodes in users.values()
        for node in nodes
        for name in node.output
        for user in users.get(name, [])
    ]
    found = set()
    for name in names:
        own = {user.name for user in users.get(name, [])}
        if not (own | reached(own, edges)) & set(chosen):
            found.add(name)
    return found


def slim(path: Path, metadata: Mapping[str, str]) -> None:
    """Take out what no runtime needs: notes on nodes, shapes, constants that are there twice, long names."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    first: dict[tuple[Any, ...], str] = {}
    other: dict[str, str] = {}
    kept = []
    for constant in graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        key = (constant.data_type, tuple(constant.dims), values.tobytes())
        other[constant.name] = first.setdefault(key, constant.name)
        if other[constant.name] == constant.name:
            kept.append(onnx.numpy_helper.from_array(values, constant.name))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    fixed = {one.name for one in (*graph.input, *graph.output)} | {""}
    short: dict[str, str] = {}
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                name = other.get(name, name)
                names[place] = name if name in fixed else short.setdefault(name, f"t{len(short):x}")
    for constant in graph.initializer:
        constant.name = short.setdefault(constant.name, f"t{len(short):x}")
    onnx.save(model, path)
