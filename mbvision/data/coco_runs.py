"""Run lengths of COCO masks, checked before the library that draws them sees them: lists, and packed strings."""

from collections.abc import Sequence
from typing import Any

_NUMBERS = {int, float}


def run_lengths(segmentation: dict[str, Any], size: tuple[int, int]) -> list[int] | None:
    """The runs of a mask of (height, width) ``size``, column by column, zeros first; None where they do not fit it."""
    counts = segmentation.get("counts")
    runs = unpacked(counts) if isinstance(counts, str) else counts
    if segmentation.get("size") != list(size) or not isinstance(runs, list) or not runs:
        return None
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        return None
    return runs


def is_drawable(segmentation: Any, size: Sequence[int]) -> bool:
    """Whether an outline can be drawn on a picture of (height, width): run lengths of its size, or polygons.

    Polygons have three points or more, of finite numbers no further out than the picture is large: the drawing
    library's memory grows with their length.
    """
    if isinstance(segmentation, dict):
        return run_lengths(segmentation, (size[0], size[1])) is not None
    if not isinstance(segmentation, list):
        return False
    side = max(size)
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or set(map(type, polygon)) - _NUMBERS:
            return False
        if not (min(polygon) >= -side and max(polygon) <= 2 * side and not any(v != v for v in polygon)):
            return False
    return True


def unpacked(text: str) -> list[int] | None:
    """The runs in COCO's packed string; None where it is cut short or holds other characters.

    A number is a series of characters from 48 on, each with 5 bits of it, lowest first, and a sixth bit for "more
    follows"; its last bit is its sign. From the fourth number on it is the difference from the run two before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return None if shift else runs
