"""albumentations as ``A``, imported without its question to the package index, and with the environment as it was."""

import os

_VARIABLE = "NO_ALBUMENTATIONS_UPDATE"
_given = os.environ.get(_VARIABLE)
os.environ[_VARIABLE] = "1"  # else it asks for newer versions when it is imported
try:
    import albumentations as A
finally:
    if _given is None:
        del os.environ[_VARIABLE]
    else:
        os.environ[_VARIABLE] = _given

__all__ = ["A"]
