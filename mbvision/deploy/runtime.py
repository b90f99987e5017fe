"""What runs an exported file: images in, named arrays out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float32

from mbvision.errors import ConfigError

Images = Float32[np.ndarray, "B 3 H W"]


class Runtime(ABC):
    """One file made ready to run; ``batch`` is the fixed number of images, None where any number will do."""

    name: str
    metadata: Mapping[str, str]
    batch: int | None

    @abstractmethod
    def run(self, images: Images) -> dict[str, np.ndarray]:
        """The outputs by name, for RGB images in 0..1."""


EXTRAS = {
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "nncf": "openvino",
    "executorch": "executorch",
}
"""The extra of mbvision that brings a package."""


def require(package: str, what: str) -> None:
    """Raise ConfigError, naming the extra to install, where an optional package is missing."""
    if find_spec(package) is None:
        raise ConfigError(f'{what} needs {package}, which is not installed: pip install "mbvision[{EXTRAS[package]}]"')
