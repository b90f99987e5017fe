"""Optional packages that a value of the configuration needs: a missing one is reported before anything else is done."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

NEEDED: Mapping[tuple[str, object], tuple[str, ...]] = {
    ("tensorboard", True): ("tensorboard", "tensorboardX"),  # Lightning takes either
    ("backend", "hotcoco"): ("hotcoco",),
    ("runtime", "onnx"): ("onnxruntime",),
    ("runtime", "openvino"): ("openvino",),
}
"""By key and value the packages of which one must be there; the first is the one to install."""


def check_extras(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError`, naming the extra to install, for a value whose package is missing."""
    for (key, value), packages in NEEDED.items():
        if config.get(key) == value and not any(find_spec(package) for package in packages):
            from mbvision.deploy.runtime import require  # slow to import

            require(packages[0], f"{key}={str(value).lower()}")
