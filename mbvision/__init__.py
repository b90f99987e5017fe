"""Multi-task vision on MobileNet backbones.

>>> model = mbvision.load("best.ckpt")
>>> result = model.predict("picture.jpg")
>>> result.boxes, result.scores, result.names
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Predictor", "Result", "__version__", "checkpoint", "load"]

if TYPE_CHECKING:
    from mbvision import checkpoint
    from mbvision.inference.predictor import Predictor, load
    from mbvision.inference.result import Result


def __getattr__(name: str) -> Any:
    """Import on first use: ``import mbvision`` alone stays quick, and the commands' argument checks with it."""
    if name in __all__:
        import_module("mbvision.writing").do_without_temporary_folder()
    if name == "checkpoint":
        return import_module("mbvision.checkpoint")
    if name in ("Predictor", "Result", "load"):
        return getattr(import_module("mbvision.inference.predictor"), name)
    raise AttributeError(f"module 'mbvision' has no attribute {name!r}")
