"""Our side of a pair in the runtimes that an export is for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mbvision.deploy import onnx, openvino
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


def in_openvino(network: Network, tasks: Mapping[str, Any], size: tuple[int, int], path: Path) -> Exported:
    """The same in OpenVINO, in float32, from the ONNX file at ``path`` where that is there already."""
    written = _write(network, tasks, size, path)
    openvino.convert(path, path.with_suffix(".xml"), {})
    return opened(written, tasks, openvino.OpenVino(path.with_suffix(".xml"), threads=1))


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
