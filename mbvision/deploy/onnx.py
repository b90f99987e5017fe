"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbvision.deploy import wrap
from mbvision.deploy.runtime import Images, Runtime, import_onnxruntime, shape_of
from mbvision.deploy.torch_export import AXES, SMALLEST
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.errors import CheckpointError

OPSET = 20
INT64, BOOL = 7, 9
"""Types of elements, as ONNX numbers them (TensorProto.DataType)."""


@torch.library.custom_op("mbvision::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, nms_threshold: float, score_threshold: float, most: int) -> Tensor:
    """`mbvision.deploy.wrap.suppress` as one node of a graph, for which ONNX has an operator."""
    return wrap.suppress(boxes, scores, nms_threshold, score_threshold, most)


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, nms_threshold: float, score_threshold: float, most: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def export(
    network: DeployedNetwork, example: Tensor, path: Path, *, dynamic: Sequence[str], metadata: Mapping[str, str]
) -> None:
    """Write the file; ``dynamic`` are the axes of the input, of batch, height and width, that are not fixed."""
    axes = {AXES.index(name): torch.export.Dim(name, min=SMALLEST[name]) for name in dynamic}
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=network.output_names,
        dynamic_shapes=(axes,),
        custom_translation_table={torch.ops.mbvision.suppress.default: _suppress()},
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(metadata)
    for node in program.model.graph:
        node.metadata_props.clear()  # the exporter's notes: lines of source code, by their paths on this machine
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # where an axis is dynamic, the exporter's formulas mislead ONNX Runtime
    program.save(path)


def _suppress() -> Any:
    """The translation of `suppress`: the candidates of a class are an image of one class to ONNX's operator."""
    import onnxscript

    op: Any = onnxscript.opset20  # its stubs take no union of types, which its constants are

    def translated(boxes: Any, scores: Any, nms_threshold: float, score_threshold: float, most: int) -> Any:
        flat = op.Flatten(scores, axis=2)  # [B * C, k]
        few = op.Shape(scores, start=2)
        chosen = op.NonMaxSuppression(
            op.Reshape(boxes, op.Concat(op.Constant(value_ints=[-1]), few, op.Constant(value_ints=[4]), axis=0)),
            op.Unsqueeze(flat, op.Constant(value_ints=[1])),
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[nms_threshold]),
            op.Constant(value_floats=[score_threshold]),
        )
        places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        one = op.Expand(op.Constant(value_ints=[1]), op.Shape(chosen, end=1))
        none = op.ConstantOfShape(op.Shape(flat), value=None)
        zeros = op.Cast(none, to=INT64)
        return op.Cast(op.Reshape(op.ScatterND(zeros, places, one), op.Shape(scores)), to=BOOL)

    return translated


class OnnxRuntime(Runtime):
    """ONNX Runtime on the processor; its sessions may be called from several threads."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        onnxruntime = import_onnxruntime(str(path))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors: they come as exceptions too
        options.intra_op_num_threads = threads or torch.get_num_threads()
        # Idle threads would wait for work at full load, and take the processor from decoding and drawing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own kinds have no common base
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"{path} is no ONNX file that can be run: {reason}") from error
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.names = [output.name for output in self.session.get_outputs()]
        self.shape = shape_of(self.session.get_inputs()[0].shape)

    def run(self, images: Images) -> dict[str, np.ndarray]:
        """The outputs by name."""
        return dict(zip(self.names, self.session.run(self.names, {"images": images}), strict=True))
