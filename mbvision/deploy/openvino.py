"""OpenVINO's files (``.xml`` with ``.bin`` beside it), made from ONNX."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbvision.deploy import onnx
from mbvision.deploy.about import KEYS
from mbvision.deploy.runtime import Images, Runtime, require, shape_of
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.errors import CheckpointError, ConfigError

PRECISIONS = {"float32": "f32", "bf16": "bf16"}
"""What OpenVINO calls them."""
SECTION = "mbvision_metadata"
"""Where the metadata lie in the ``rt_info`` of the model."""
ANY = "any shape"
SHAPES = 4
"""So many shapes of input are compiled for each: each takes up to a second, and memory for a copy of the weights."""


def export(
    network: DeployedNetwork, example: Tensor, path: Path, *, dynamic: Sequence[str], metadata: Mapping[str, str]
) -> None:
    """Write both files, with weights in float32."""
    with tempfile.TemporaryDirectory() as folder:
        through = Path(folder) / "model.onnx"
        onnx.export(network, example, through, dynamic=dynamic, metadata=metadata)
        convert(through, path, metadata)


def convert(source: Path, path: Path, metadata: Mapping[str, str]) -> None:
    """Write both files of an ONNX file, with weights in float32."""
    import openvino

    model = openvino.convert_model(source)
    quicken_argmax(model)
    for key, value in metadata.items():
        model.set_rt_info(value, [SECTION, key])
    openvino.save_model(model, path, compress_to_fp16=False)


def quicken_argmax(model: Any) -> None:
    """The same from two reductions: the sort that OpenVINO makes of it takes as long as all layers of LR-ASPP."""
    import openvino.opset13 as ops

    for node in model.get_ordered_ops():
        if node.get_type_name() != "TopK" or node.output(0).get_target_inputs():
            continue
        values, found = node.input_value(0), node.output(1)
        axis = node.get_attributes()["axis"]
        if node.get_attributes()["mode"] != "max" or found.get_partial_shape()[axis] != 1:
            continue  # not the best one alone
        classes = values.get_partial_shape()[axis].get_length()
        shape = [classes if place == axis else 1 for place in range(len(values.get_partial_shape()))]
        numbers = ops.constant(np.arange(classes, dtype=np.float32).reshape(shape))
        best = ops.reduce_max(values, ops.constant([axis]), keep_dims=True)
        numbers = ops.select(ops.equal(values, best), numbers, ops.constant(np.float32(classes)))
        first = ops.convert(ops.reduce_min(numbers, ops.constant([axis]), keep_dims=True), found.get_element_type())
        for user in found.get_target_inputs():
            user.replace_source_output(first.output(0))


class OpenVino(Runtime):
    """OpenVINO on the processor, in float32: left alone it computes in bfloat16 where the processor can.

    ``precision`` is float32 or bf16; raises ConfigError for a processor that has not the latter.
    """

    def __init__(self, path: Path, *, threads: int | None = None, precision: str = "float32") -> None:
        require("openvino", str(path))
        import openvino

        hint = PRECISIONS[precision]
        self.path, self.core, self.lock = path, openvino.Core(), Lock()  # a compiled model has one request
        self.settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        self.settings["INFERENCE_NUM_THREADS"] = threads or torch.get_num_threads()
        if precision == "bf16" and "BF16" not in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError("precision=bf16: this processor has no bfloat16; leave it out")
        if not path.with_suffix(".bin").is_file():
            raise CheckpointError(f"{path}: its weights, {path.with_suffix('.bin').name}, must lie beside it")
        with self._told():
            self.model = self.core.read_model(path)
            self.own_shapes = SHAPES if self.model.is_dynamic() else 0
            self.compiled: dict[Any, Any] = {} if self.own_shapes else {ANY: self._compile(self.model)}
        known = [key for key in KEYS if self.model.has_rt_info([SECTION, key])]
        self.metadata = {key: self.model.get_rt_info([SECTION, key]).astype(str) for key in known}
        self.names = [output.get_any_name() for output in self.model.outputs]
        sides = self.model.inputs[0].get_partial_shape()
        self.shape = shape_of([None if side.is_dynamic else side.get_length() for side in sides])

    def run(self, images: Images) -> dict[str, np.ndarray]:
        """The outputs by name."""
        with self.lock:
            found = self._compiled_for(images.shape)(images, share_outputs=True)
            return {name: np.array(found[place]) for place, name in enumerate(self.names)}

    def _compiled_for(self, shape: tuple[int, ...]) -> Any:
        """Compiled for this shape alone: in 8 bits SSDLite takes a tenth less time so. After `SHAPES` one for any."""
        import openvino

        fits = self.model.inputs[0].get_partial_shape().compatible(openvino.PartialShape([*shape]))
        key = shape if shape in self.compiled or (fits and len(self.compiled) < self.own_shapes) else ANY
        if key not in self.compiled:
            model = self.model
            with self._told():
                if key == shape:
                    model = model.clone()
                    model.reshape([*shape])
                self.compiled[key] = self._compile(model)
        return self.compiled[key]

    def _compile(self, model: Any) -> Any:
        return self.core.compile_model(model, "CPU", self.settings)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Name the file where OpenVINO refuses it."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise CheckpointError(f"{self.path} is no OpenVINO model that can be run: {reason}") from error
