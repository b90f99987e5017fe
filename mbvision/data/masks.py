"""The one door for masks: files with a label for each pixel become ``uint8 [H, W]``, classes from 0 and 255 = ignore.

A file holds values (palette indices, gray levels) or the classes' colours; a `MaskScheme` says which label each has.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import gcd
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8

from mbvision.data.base import Reader
from mbvision.data.images import MAX_PIXELS, read_image, stored_size
from mbvision.data.mask_colours import Colour, is_reordered, labels_of_colours
from mbvision.data.mask_pixels import Size, Values, read_mask_pixels
from mbvision.errors import DataError, MaskValueError, SizeMismatchError, is_printable
from mbvision.structures import IGNORE, Geometry, MaskAnnotations, MaskScheme, Sample, Target

Labels = UInt8[np.ndarray, "H W"]

_logger = logging.getLogger(__name__)


def voc_palette(count: int) -> tuple[Colour, ...]:
    """The first colours of Pascal VOC's palette: bit ``j`` of the index goes to channel ``j % 3``, high bits first."""
    index = np.arange(count)
    colours = np.zeros((count, 3), dtype=np.int64)
    for bit in range(8):
        colours[:, bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
    return tuple((int(r), int(g), int(b)) for r, g, b in colours)


def mask_scheme(
    class_names: Sequence[str],
    *,
    source: str,
    stored: Sequence[int] | None = None,
    ignored: Sequence[int] = (IGNORE,),
    palette: Sequence[Colour] | None = None,
) -> MaskScheme:
    """A scheme that was checked; ``source`` names the file or key it comes from in errors.

    Without ``stored`` the classes have the smallest values that are not ignored. Without ``palette`` they are drawn in
    the colours that VOC gives to their values, and files in colours cannot be read. Raises ``DataError``.
    """
    names, void = tuple(class_names), tuple(sorted(set(ignored)))
    values = tuple([v for v in range(256) if v not in void][: len(names)] if stored is None else stored)
    colours = tuple(voc_palette(256)[v] for v in values if 0 <= v <= 255) if palette is None else tuple(palette)
    if not names or len(values) != len(names) or len(colours) != len(names) or len(names) > IGNORE:
        raise DataError(f"{source}: {len(names)} classes, {len(values)} values, {len(colours)} colours; give 1 to 255")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise DataError(f"{source}: the class {twice[0]!r} is there twice; remove one")
    if nameless := [name for name in names if not isinstance(name, str) or not name or not is_printable(name)]:
        shown = repr(nameless[0])[:40]
        raise DataError(f"{source}: {shown} is no name of a class; put quotes around what YAML takes for no text")
    if wrong := [value for value in (*values, *void) if not 0 <= value <= 255]:
        raise DataError(f"{source}: the mask value {wrong[0]} is outside 0..255")
    if len(set(values) | set(void)) < len(values) + len(void):
        raise DataError(f"{source}: a mask value belongs to two classes, or to a class and to void")
    return MaskScheme(
        class_names=names, stored=values, ignored=void, palette=colours, colours_known=palette is not None
    )


def read_mask(
    path: Path,
    *,
    root: Path | None,
    scheme: MaskScheme,
    size: Size | None = None,
    max_pixels: int = MAX_PIXELS,
    remedy: str = "correct the mask, or the list of classes",
    strays: Counter[int] | None = None,
) -> Labels:
    """The labels of a mask file, which must have ``size`` (height, width) where that is given.

    Gray images give their values and RGB ones the classes of their colours. Palette images give their indices, unless
    their palette has the colours of the scheme's classes in another order: then the colours count. EXIF is left alone.
    Raises ``ImageError``, or ``AnnotationError`` for lossy files and for values or colours that the scheme does not
    know; ``remedy`` ends its message about values. With ``strays`` values of no class are counted there and become 255.
    """
    pixels = read_mask_pixels(path, root=root, size=size, max_pixels=max_pixels)
    if pixels.colours is not None:
        return labels_of_colours(pixels.colours, scheme, path)
    assert pixels.values is not None, "a mask holds values or colours"
    if pixels.palette is not None and scheme.colours_known and is_reordered(pixels.values, pixels.palette, scheme):
        return labels_of_colours(pixels.palette[pixels.values], scheme, path)
    return labels_of_values(pixels.values, scheme, path, remedy=remedy, strays=strays)


def load_mask(path: str | Path, num_classes: int) -> Labels:
    """The labels 0 to ``num_classes - 1``, and 255, that a mask file holds; see ``read_mask``.

    A mask of colours is an ``AnnotationError``, since it is not known what they stand for.
    """
    if not 1 <= num_classes <= IGNORE:
        raise DataError(f"{path}: cannot be read with num_classes={num_classes}; a mask has 1 to {IGNORE} classes")
    names = tuple(f"class {label}" for label in range(num_classes))
    return read_mask(Path(path), root=None, scheme=mask_scheme(names, source=str(path)))


def labels_of_values(
    values: Values,
    scheme: MaskScheme,
    path: Path,
    *,
    remedy: str,
    strays: Counter[int] | None = None,
) -> Labels:
    """The label of each stored value; raises ``AnnotationError`` naming values that the scheme does not know.

    With ``strays`` these are counted there, the values without a label too, and become 255.
    """
    table, known = _lookup(scheme)
    if values.dtype != np.uint8:
        outside = (values < 0) | (values > 255)
        if outside.any():
            raise _stray(values[outside], scheme, path, remedy)
        values = values.astype(np.uint8)
    values = np.ascontiguousarray(values)
    if strays is not None:
        counts = np.bincount(values.reshape(-1), minlength=256)
        strays.update({v: int(counts[v]) for v in np.flatnonzero(counts).tolist() if table[v] == IGNORE})
    elif not (good := cv2.LUT(values, known)).all():  # a lookup by NumPy's index takes eight times the memory
        raise _stray(values[good == 0], scheme, path, remedy)
    labels: Labels = cv2.LUT(values, table)
    return labels


@lru_cache(maxsize=16)
def _lookup(scheme: MaskScheme) -> tuple[UInt8[np.ndarray, "256"], UInt8[np.ndarray, "256"]]:
    """The label of each value, and 1 where the scheme knows the value."""
    table, known = np.full(256, IGNORE, dtype=np.uint8), np.zeros(256, dtype=np.uint8)
    table[list(scheme.stored)] = np.arange(len(scheme.stored), dtype=np.uint8)
    known[list(scheme.stored + scheme.ignored)] = 1
    return table, known


def _stray(values: Int[np.ndarray, " N"], scheme: MaskScheme, path: Path, remedy: str) -> MaskValueError:
    found, counts = np.unique(values, return_counts=True)
    strays = dict(zip(found.tolist(), counts.tolist(), strict=True))
    return MaskValueError(f"{path}: mask values that belong to no class: {strays_told(strays, scheme)}; {remedy}")


def strays_told(strays: Mapping[int, int], scheme: MaskScheme) -> str:
    """Values of no class with their numbers of pixels, and by what class indices seem to be multiplied, if they are."""
    shown = ", ".join(f"{value} ({count} pixels)" for value, count in sorted(strays.items())[:3])
    more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
    factor, classes = gcd(*strays), len(scheme.stored)
    spread = 1 < factor <= max(strays) < factor * classes and factor * (classes - 1) > IGNORE // 2
    return f"{shown}{more}" + (f"; they look like class indices times {factor}: divide by it" if spread else "")


class MaskSource(Protocol):
    """Gives one mask: reads a file, or draws outlines; refuses a mask that is not of ``size``, where that is given."""

    def __call__(self, *, size: Size | None = None) -> Labels:
        """The labels, new at each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskItem:
    """One image, which must lie below ``image_root`` where that is given, and where its mask comes from."""

    image_id: int | str
    image: Path
    image_root: Path | None
    mask: MaskSource
    mask_path: Path | None = None
    """The mask's file, where it has one of its own."""


def mask_file(
    path: Path, *, root: Path | None, scheme: MaskScheme, max_pixels: int, remedy: str | None = None
) -> MaskSource:
    """The source of a mask that is a file; it can be sent to other processes."""
    source = partial(read_mask, path, root=root, scheme=scheme, max_pixels=max_pixels)
    return source if remedy is None else partial(source, remedy=remedy)


class MaskReader(Reader):
    """Pictures with a label for each pixel.

    A mask of another size than its picture is refused, unless it has the picture's *stored* size (before EXIF
    orientation): then it was drawn on the stored picture, which is read as it is.
    """

    def __init__(
        self, *, annotations: MaskAnnotations, items: Sequence[MaskItem], max_pixels: int = MAX_PIXELS
    ) -> None:
        if tuple(item.image_id for item in items) != annotations.image_ids:
            raise ValueError("items and annotations must have the same image ids in the same order")
        self.annotations = annotations
        self.class_names: Mapping[str, Sequence[str]] = {"segmentation": annotations.scheme.class_names}
        self._items = items
        self._max_pixels = max_pixels
        self._warned_of_orientation = False

    def __len__(self) -> int:
        return len(self.annotations)

    @property
    def truth(self) -> Mapping[str, MaskAnnotations]:
        """The classes of the masks, and the images."""
        return {"segmentation": self.annotations}

    def path(self, index: int) -> Path:
        """The file of one picture."""
        return self._items[index].image

    def mask(self, index: int, size: Size | None = None) -> Labels:
        """The labels of one picture; raises ``AnnotationError`` where they have not the (height, width) ``size``."""
        return self._items[index].mask(size=size)

    def mask_path(self, index: int) -> Path | None:
        """The file of one mask; None for masks that are drawn from outlines."""
        return self._items[index].mask_path

    def read(self, index: int) -> Sample:
        """The picture with its mask; raises ``ImageError`` or ``AnnotationError``."""
        item = self._items[index]
        image = read_image(item.image, root=item.image_root, max_pixels=self._max_pixels)
        labels = item.mask()
        if labels.shape != image.shape[:2]:
            image = self._read_stored(item, labels.shape, image.shape[:2])
        target = Target(
            image_id=item.image_id, geometry=Geometry(original=image.shape[:2]), mask=torch.from_numpy(labels)
        )
        return Sample(image=image, target=target, path=str(item.image))

    def _read_stored(
        self, item: MaskItem, size: tuple[int, ...], upright: tuple[int, ...]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The picture without its EXIF orientation, where that is what the mask was drawn on."""
        if stored_size(item.image, root=item.image_root) != size:
            raise SizeMismatchError(
                f"{item.image}: the picture is {upright[1]}x{upright[0]}, its mask {size[1]}x{size[0]}; export the "
                "mask at the picture's size"
            )
        if not self._warned_of_orientation:
            self._warned_of_orientation = True
            _logger.warning(
                "%s: its mask fits it as it is stored, not as its EXIF orientation shows it; this and all such pictures"
                " are read unrotated",
                item.image,
            )
        return read_image(item.image, root=item.image_root, max_pixels=self._max_pixels, upright=False)


def mask_reader(items: Sequence[MaskItem], scheme: MaskScheme, *, source: str, max_pixels: int) -> MaskReader:
    """The reader of a set whose image ids must be unique; ``source`` names the set in errors."""
    ids = tuple(item.image_id for item in items)
    if not ids:
        raise DataError(f"{source}: holds no picture with a mask")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(f"{source}: the picture {twice!r} is there twice; name each split once")
    annotations = MaskAnnotations(scheme=scheme, image_ids=ids)
    return MaskReader(annotations=annotations, items=items, max_pixels=max_pixels)
