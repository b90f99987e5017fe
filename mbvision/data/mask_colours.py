"""Masks drawn in colours: the label of each pixel from the colours of the classes."""

import json
from collections.abc import Mapping, Sequence
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
_MOST_COLOURS = 64
"""More colours than that are a photograph, or a mask that was scaled with interpolation: no table is printed."""


def labels_of_colours(pixels: UInt8[np.ndarray, "H W 3"], scheme: MaskScheme, path: Path) -> UInt8[np.ndarray, "H W"]:
    """The label of each colour. Raises ``MaskColourError`` where the scheme does not say what a colour stands for."""
    pixel_codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    if not scheme.colours_known:
        found = _counted(pixel_codes)
        raise MaskColourError(colours_without_table(str(path), found, scheme.class_names), found)
    codes, labels = _colour_table(scheme)
    place = np.searchsorted(codes, pixel_codes).clip(max=len(codes) - 1)
    unknown = codes[place] != pixel_codes
    found_labels = labels[place]
    if unknown.any():
        strange = _counted(pixel_codes[unknown])
        shown = ", ".join(f"RGB {colour} ({count} pixels)" for colour, count in list(strange.items())[:3])
        raise MaskColourError(
            f"{path}: a mask with colours that no class has: {shown}{_and_more(len(strange) - 3)}; add them to the "
            "classes' colours, or save one channel of class indices",
            strange,
        )
    if (found_labels < 0).any():
        twice = _counted(pixel_codes[found_labels < 0])
        raise MaskColourError(
            f"{path}: the colour RGB {next(iter(twice))} belongs to two classes; save one channel of class indices",
            twice,
        )
    return found_labels.astype(np.uint8)


def colours_without_table(source: str, colours: Mapping[Colour, int], names: Sequence[str]) -> str:
    """The message for masks in colours of which no class is known: a table to paste into ``classes.json``."""
    if len(colours) > _MOST_COLOURS:
        return (
            f"{source}: {len(colours)} RGB colours, too many for a mask of {len(names)} classes: it is a photograph, or"
            " was scaled with interpolation; save one channel of class indices"
        )
    void = VOID_COLOURS if len(colours) > len(names) else ()  # borders, which no table needs
    palette = [list(colour) for colour in colours if colour not in void]
    table = json.dumps({"classes": list(names), "palette": palette})
    return (
        f"{source}: masks in RGB colours, and no table says which class has which. Write classes.json as {table} with "
        f"the {len(palette)} colours found (most pixels first) put into the order of the classes"
    )


def is_reordered(values: Int[np.ndarray, "H W"], palette: UInt8[np.ndarray, "256 3"], scheme: MaskScheme) -> bool:
    """Whether the palette of an image gives a value that occurs the colour of another class than that value's."""
    if has_order_of(palette, scheme):
        return False
    label_of = {colour: label for label, colour in enumerate(scheme.palette)}
    own = dict(zip(scheme.stored, range(len(scheme.stored)), strict=True))
    colours = used_colours(values, palette)
    return any(colour in label_of and label_of[colour] != own.get(value) for value, colour in colours.items())


def has_order_of(palette: UInt8[np.ndarray, "256 3"], scheme: MaskScheme) -> bool:
    """Whether a palette has the colour of each of the scheme's classes at its value."""
    return np.array_equal(palette[list(scheme.stored)], np.array(scheme.palette))


def used_colours(values: Int[np.ndarray, "H W"], palette: UInt8[np.ndarray, "256 3"]) -> dict[int, Colour]:
    """The colour of each value of a palette image that occurs in it."""
    used = np.flatnonzero(np.bincount(values.reshape(-1), minlength=256)).tolist()
    return {value: (int(palette[value][0]), int(palette[value][1]), int(palette[value][2])) for value in used}


def _counted(codes: Int[np.ndarray, "..."]) -> dict[Colour, int]:
    """The pixels of each colour, the most frequent first."""
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    pairs = zip(found[order].tolist(), counts[order].tolist(), strict=True)
    return {(code >> 16, code >> 8 & 255, code & 255): count for code, count in pairs}


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


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
