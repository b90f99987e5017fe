"""Files of ``torch.export``, which ``torch.export.load(path).module()`` runs anywhere that torch is."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbvision.deploy.about import description, names_of
from mbvision.deploy.runtime import Images, Runtime, shape_of
from mbvision.deploy.wrap import DeployedNetwork

AXES = ("batch", "channels", "height", "width")
SMALLEST = {"batch": 1, "height": 32, "width": 32}
"""The least that a dynamic axis may be: no network takes a smaller input."""
TRACED = {"height": 1280, "width": 1312}
"""What a dynamic side is while the graph is made: no map has a side of 1 then, which torch would hold to be fixed."""


def traced(network: DeployedNetwork, example: Tensor, dynamic: Sequence[str]) -> torch.export.ExportedProgram:
    """The graph of a network; ``dynamic`` are the axes of the input, of batch, height and width, that are not fixed."""
    axes = {AXES.index(name): torch.export.Dim(name, min=SMALLEST[name]) for name in dynamic}
    sides = {AXES.index(name): TRACED[name] for name in dynamic if name in TRACED}
    shape = [sides.get(axis, side) for axis, side in enumerate(example.shape)]
    config: Any = torch.fx.experimental._config
    with config.patch(backed_size_oblivious=True):  # without, a side of 1 would be refused
        return torch.export.export(network, (example.new_empty(shape),), dynamic_shapes=(axes,))


def export(
    network: DeployedNetwork, example: Tensor, path: Path, *, dynamic: Sequence[str], metadata: Mapping[str, str]
) -> None:
    """Write the file; the metadata are files beside the graph, ``extra_files`` to ``torch.export.load``."""
    program = traced(network, example, dynamic)
    program.example_inputs = None  # it would be saved too
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines of source code, by their paths on this machine
    content = io.BytesIO()  # torch's own writer ends the whole process where the disk is full
    torch.export.save(program, content, extra_files=dict(metadata))
    path.write_bytes(content.getbuffer())


class TorchExport(Runtime):
    """torch itself. For files just written: what another person's file would run while it is loaded is not checked."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.metadata = {"mbvision": ""}
        program = torch.export.load(path, extra_files=self.metadata)
        self.module: Any = program.module()
        self.names = names_of(description(self.metadata, path)["outputs"])
        images = next(node for node in program.graph.nodes if node.name == program.graph_signature.user_inputs[0])
        self.shape = shape_of(images.meta["val"].shape)

    @torch.inference_mode()
    def run(self, images: Images) -> dict[str, np.ndarray]:
        """The outputs by name; the file itself only has them in their order."""
        found = self.module(torch.from_numpy(images))
        return {name: value.numpy() for name, value in zip(self.names, found, strict=True)}
