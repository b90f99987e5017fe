"""The formats that a network is written in, and what runs the files."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mbvision.deploy import (
    coreml,
    executorch,
    int8_executorch,
    int8_onnx,
    int8_openvino,
    onnx,
    openvino,
    torch_export,
    wrap,
)
from mbvision.deploy.runtime import Runtime
from mbvision.deploy.wrap import Suppress
from mbvision.errors import CheckpointError, ConfigError


class Format(NamedTuple):
    """One format.

    ``write`` takes network, example, path, ``dynamic`` and ``metadata``. ``runtime`` makes a file ready to run, on so
    many ``threads`` where they are given; it is None where this machine cannot. ``suppress`` is how detections are
    selected in the graph, None where they are not. ``opened``: whether the file is used like a checkpoint.
    ``quantize`` takes network, float file, path, ``pictures``, ``keep_float`` and ``metadata``, and writes the file
    anew in 8 bits; it needs ``quantize_packages`` too.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Callable[..., None]
    runtime: Callable[..., Runtime] | None = None
    suppress: Suppress | None = None
    dynamic: tuple[str, ...] = ()
    opened: bool = True
    quantize: Callable[..., None] | None = None
    quantize_packages: tuple[str, ...] = ()


AXES = ("batch", "height", "width")
FORMATS = {
    "onnx": Format(
        ".onnx",
        ("onnxscript", "onnxruntime"),
        onnx.export,
        onnx.OnnxRuntime,
        onnx.suppress,
        AXES,
        quantize=int8_onnx.quantize,
    ),
    "torch_export": Format(
        ".pt2", (), torch_export.export, torch_export.TorchExport, wrap.suppress, AXES, opened=False
    ),
    "openvino": Format(
        ".xml",
        ("openvino", "onnxscript"),
        openvino.export,
        openvino.OpenVino,
        onnx.suppress,
        AXES,
        quantize=int8_openvino.quantize,
        quantize_packages=("nncf",),
    ),
    "executorch": Format(
        ".pte",
        ("executorch",),
        executorch.export,
        executorch.ExecuTorch,
        quantize=int8_executorch.quantize,
        quantize_packages=("torchao",),
    ),
    "coreml": Format(".mlpackage", ("coremltools",), coreml.export, opened=False),
}
"""By the name that ``format=`` takes."""

LITERT = (
    'format=litert: its converter needs torch below 2.15, so an environment of its own: pip install "torch<2.15"'
    " litert-torch mbvision; docs/export.md shows what to run there"
)
"""Why there is no such format here, and how to have its files."""

RUNTIMES = {one.suffix: one.runtime for one in FORMATS.values() if one.runtime and one.opened}
"""What runs a file that is used like a checkpoint, by its suffix."""


def open_runtime(path: Path, *, threads: int | None = None) -> Runtime:
    """The runtime of a file. Raises CheckpointError for a file that is of no use, ConfigError for a missing package."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    return RUNTIMES[path.suffix.lower()](path, threads=threads)


def find_format(name: str, output: Path) -> Format:
    """The format of that name. Raises ConfigError if there is none, or if the output has another suffix."""
    if name == "litert":
        raise ConfigError(LITERT)
    if name not in FORMATS:
        raise ConfigError(f"format={name}: choose {', '.join(FORMATS)}")
    if output.suffix.lower() != FORMATS[name].suffix:
        raise ConfigError(f"output={output}: format={name} writes {FORMATS[name].suffix} files")
    return FORMATS[name]
