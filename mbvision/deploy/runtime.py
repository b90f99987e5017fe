"""What runs an exported file: images in, named arrays out."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float32

from mbvision.errors import ConfigError

Images = Float32[np.ndarray, "B 3 H W"]
Shape = tuple[int | None, int | None, int | None]


def shape_of(sides: Sequence[Any]) -> Shape:
    """The shape of an input from its four sides, of which only whole numbers are fixed."""
    batch, _, height, width = (side if isinstance(side, int) else None for side in sides)
    return batch, height, width


class Runtime(ABC):
    """One file made ready to run; ``shape`` is (images, height, width) of its input, None for what is not fixed.

    It computes on ``threads``, by default on as many as torch does, and may be called from several threads at once.
    """

    metadata: Mapping[str, str]
    shape: Shape

    @abstractmethod
    def run(self, images: Images) -> dict[str, np.ndarray]:
        """The outputs by name, for RGB images in 0..1."""


EXTRAS = {
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "nncf": "openvino",
    "executorch": "executorch",
    "torchao": "executorch",
    "coremltools": "coreml",
    "tensorboard": "tensorboard",
    "hotcoco": "fast-eval",
}
"""The extra of mbvision that brings a package."""


def require(package: str, what: str) -> None:
    """Raise ConfigError, naming the extra to install, where an optional package is missing."""
    if find_spec(package) is None:
        raise ConfigError(f'{what} needs {package}, which is not installed: pip install "mbvision[{EXTRAS[package]}]"')


def import_onnxruntime(what: str) -> ModuleType:
    """Import ONNX Runtime without its telemetry, which is on by default; ``what`` needs it.

    It reads ``ORT_DISABLE_TELEMETRY`` once, when it is first imported (its Privacy.md, from version 1.29 on). A value
    that the user has set is kept, and the variable is taken back afterwards. Raises ConfigError where it is missing.
    """
    require("onnxruntime", what)
    is_ours = "ORT_DISABLE_TELEMETRY" not in os.environ
    if is_ours:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    finally:
        if is_ours:
            del os.environ["ORT_DISABLE_TELEMETRY"]
    return onnxruntime
