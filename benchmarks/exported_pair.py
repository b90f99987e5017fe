"""Our side of a pair in the runtimes that an export is for."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.deploy import int8_onnx, int8_openvino, onnx, openvino
from mbvision.deploy.exported import ExportedNetwork, ExportedTask
from mbvision.deploy.fold import folded
from mbvision.deploy.runtime import Runtime
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.losses.segmentation import SegmentationLoss
from mbvision.network import Network
from mbvision.tasks.segmentation import SemanticSegmentation


class Exported(NamedTuple):
    """A network and its tasks, computed by a runtime on one thread."""

    network: nn.Module
    tasks: Mapping[str, Any]
    runtime: Runtime


def segmentation_tasks() -> dict[str, Any]:
    """Those of a segmenter."""
    return {"segmentation": SemanticSegmentation(loss=SegmentationLoss())}


def in_onnxruntime(network: Network, tasks: Mapping[str, Any], size: tuple[int, int], path: Path) -> Exported:
    """Written to ``path`` as ``export`` writes it, and opened."""
    return opened(_write(network, tasks, size, path), tasks, onnx.OnnxRuntime(path, threads=1))


def write_files(
    network: Network, tasks: Mapping[str, Any], pictures: Sequence[Float[Tensor, "1 3 H W"]], folder: Path
) -> dict[str, Path]:
    """A file for each runtime that is installed, by its name; those in 8 bits, with the pictures' ranges, say so."""
    found = {}
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        path, int8 = (folder / f"{next(iter(tasks))}{end}.onnx" for end in ("", "-int8"))
        made = _write(network, tasks, (pictures[0].shape[2], pictures[0].shape[3]), path)
        found["ONNX Runtime"] = path
        int8_onnx.quantize(made, path, int8, pictures=pictures, keep_float=(), metadata={})
        found["ONNX Runtime, int8"] = int8
        if find_spec("openvino"):
            found["OpenVINO"] = path.with_suffix(".xml")
            openvino.convert(path, found["OpenVINO"], {})
        if find_spec("openvino") and find_spec("nncf"):
            found["OpenVINO, int8"] = int8.with_suffix(".xml")
            int8_openvino.quantize(
                made, found["OpenVINO"], int8.with_suffix(".xml"), pictures=pictures, keep_float=(), metadata={}
            )
    return found


def opened(network: DeployedNetwork, tasks: Mapping[str, Any], runtime: Runtime) -> Exported:
    """A file of a network in its runtime."""
    readers = {name: ExportedTask(name, task) for name, task in tasks.items()}
    return Exported(ExportedNetwork(runtime, network.outputs), readers, runtime)


def deployed(network: Network, tasks: Mapping[str, Any]) -> DeployedNetwork:
    """The network as files hold it."""
    plain = folded(network).to(memory_format=torch.contiguous_format)
    return DeployedNetwork(network=plain, tasks=tasks, masks="logits").eval()


def _write(network: Network, tasks: Mapping[str, Any], size: tuple[int, int], path: Path) -> DeployedNetwork:
    made = deployed(network, tasks)
    if not path.exists():
        onnx.export(made, torch.rand(2, 3, *size), path, dynamic=["batch"], metadata={})
    return made
