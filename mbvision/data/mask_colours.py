"""Masks drawn in colours: the label of each pixel from the colours of the classes."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from mbvision.errors import MaskColourError
from mbvision.structures import IGNORE, MaskScheme

Colour = tuple[int, int, int]

VOC_VOID = (224, 224, 192)
VOID_COLOURS: tuple[Colour, ...] = ((0, 0, 0), (255, 255, 255), VOC_VOID)
"""Black, white and Pascal VOC's border: ignored in masks of colours, unless a class has that colour."""


def labels_of_colours(pixels: UInt8[np.ndarray, "H W C"], scheme: MaskScheme, path: Path) -> UInt8[np.ndarray, "H W"]:
    """The label of each colour; transparency plays no part."""
    codes, labels = _colour_table(scheme)
    pixel_codes = pixels[..., :3].astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    place = np.searchsorted(codes, pixel_codes).clip(max=len(codes) - 1)
    unknown = codes[place] != pixel_codes
    found = labels[place]
    if unknown.any():
        code = int(pixel_codes[unknown][0])
        raise MaskColourError(
            f"{path}: a mask of colours with {_colour(code)}, which no class has ({int(unknown.sum())} pixels of such "
            "colours); save one channel of class indices, or give the classes' colours"
        )
    if (found < 0).any():
        code = int(pixel_codes[found < 0][0])
        raise MaskColourError(
            f"{path}: the colour {_colour(code)} belongs to two classes; save one channel of class indices"
        )
    return found.astype(np.uint8)


@lru_cache(maxsize=16)
def _colour_table(scheme: MaskScheme) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Colours as numbers, rising, and the label of each; -1 for a colour of two classes."""
    label_of: dict[Colour, int] = {}
    for label, colour in enumerate(scheme.palette):
        label_of[colour] = -1 if colour in label_of else label
    for colour in VOID_COLOURS:
        label_of.setdefault(colour, IGNORE)
    pairs = sorted(((r << 16) + (g << 8) + b, label) for (r, g, b), label in label_of.items())
    return np.array([code for code, _ in pairs], dtype=np.int32), np.array([label for _, label in pairs], np.int16)


def _colour(code: int) -> str:
    return f"RGB ({code >> 16}, {code >> 8 & 255}, {code & 255})"
