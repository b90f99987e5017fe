"""Multi-task vision on MobileNet backbones."""

__version__ = "0.1.0"
