"""ExecuTorch's files (``.pte``) for phones, computed by XNNPACK."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbvision.deploy.about import description, names_of
from mbvision.deploy.runtime import Images, Runtime, require, shape_of
from mbvision.deploy.torch_export import traced
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.errors import CheckpointError, ConfigError


def export(
    network: DeployedNetwork, example: Tensor, path: Path, *, dynamic: Sequence[str], metadata: Mapping[str, str]
) -> None:
    """Write the file, for inputs of the example's shape; each entry of the metadata is a method that returns it."""
    if dynamic:
        raise ConfigError(f"dynamic={list(dynamic)}: format=executorch has fixed inputs; set dynamic=[] and batch=1")
    lower(traced(network, example, ()), path, metadata)


def lower(program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a graph for XNNPACK."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=dict(metadata))
    with path.open("wb") as file:
        lowered.to_executorch().write_to_file(file)


class ExecuTorch(Runtime):
    """ExecuTorch's Python runtime."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        require("executorch", str(path))
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Program

        wanted = threads or torch.get_num_threads()
        if portable_lib._threadpool_get_thread_count() != wanted:
            portable_lib._unsafe_reset_threadpool(wanted)  # of the whole process: unsafe only while something runs
        self.lock = Lock()  # a method holds the tensors of one call
        try:
            self.program = Program.get().load_program(path)
            self.method: Any = self.program.load_method("forward")
        except RuntimeError as error:
            raise CheckpointError(f"{path} is no ExecuTorch program that can be run: {error}") from error
        constants = self.program.method_names - {"forward"}
        self.metadata = {str(name): str(self._constant(name)) for name in constants}
        self.shape = shape_of(self.method.metadata.input_tensor_meta(0).sizes())
        self.names = names_of(description(self.metadata, path)["outputs"])

    def _constant(self, name: str) -> Any:
        return self.program.load_method(name).execute([])[0]

    def run(self, images: Images) -> dict[str, np.ndarray]:
        """The outputs by name; the file itself only has them in their order."""
        with self.lock:
            found = self.method.execute([torch.from_numpy(images)])
            return {name: value.numpy().copy() for name, value in zip(self.names, found, strict=True)}
