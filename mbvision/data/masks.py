"""The one door for masks: files with a label for each pixel become ``uint8 [H, W]``, classes from 0 and 255 = ignore.

A file holds values (palette indices, gray levels) or the classes' colours; a `MaskScheme` says which label each has.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image

from mbvision.data.base import Reader
from mbvision.data.images import MAX_PIXELS, load_as_stored, open_checked, read_image, stored_size
from mbvision.data.mask_colours import Colour, labels_of_colours
from mbvision.errors import AnnotationError, DataError, MaskValueError, SizeMismatchError, is_printable
from mbvision.structures import IGNORE, Geometry, MaskAnnotations, MaskScheme, Sample, Target

Size = tuple[int, int]
Labels = UInt8[np.ndarray, "H W"]

_ALTERED = {
    "JPEG": "JPEG is lossy, so its labels are not those that were drawn",
    "AVIF": "AVIF is nearly always lossy, so its labels may not be those that were drawn",
    "JPEG2000": "JPEG 2000 is often lossy, so its labels may not be those that were drawn",
    "GIF": "GIF numbers its colours anew, so its values are not those that were drawn",
}
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
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

    Without ``stored`` the classes have the smallest values that are not ignored; without ``palette`` the colours that
    VOC gives to their values. Raises ``DataError``.
    """
    names, void = tuple(class_names), tuple(sorted(set(ignored)))
    values = tuple([v for v in range(256) if v not in void][: len(names)] if stored is None else stored)
    colours = tuple(voc_palette(256)[v] for v in values if 0 <= v <= 255) if palette is None else tuple(palette)
    if not names or len(values) != len(names) or len(colours) != len(names) or len(names) > IGNORE:
        raise DataError(f"{source}: {len(names)} classes, {len(values)} values, {len(colours)} colours; give 1 to 255")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise DataError(f"{source}: the class {twice[0]!r} is there twice; remove one")
    if nameless := [name for name in names if not name or not is_printable(name)]:
        raise DataError(f"{source}: {nameless[0][:40]!r} is no name of a class")
    if wrong := [value for value in (*values, *void) if not 0 <= value <= 255]:
        raise DataError(f"{source}: the mask value {wrong[0]} is outside 0..255")
    if len(set(values) | set(void)) < len(values) + len(void):
        raise DataError(f"{source}: a mask value belongs to two classes, or to a class and to void")
    return MaskScheme(class_names=names, stored=values, ignored=void, palette=colours)


def read_mask(
    path: Path,
    *,
    root: Path | None,
    scheme: MaskScheme,
    size: Size | None = None,
    max_pixels: int = MAX_PIXELS,
    remedy: str = "correct the mask, or the list of classes",
) -> Labels:
    """The labels of a mask file, which must have ``size`` (height, width) where that is given.

    Palette images give their indices, gray ones their values, RGB ones the classes of their colours. EXIF is left
    alone. Raises ``ImageError``, or ``AnnotationError`` for lossy files and for values or colours that the scheme does
    not know; ``remedy`` ends its message about values.
    """
    with open_checked(path, root, max_pixels) as image:
        _refuse_altered(image, path)
        image = load_as_stored(image, str(path))
        check_size(path, (image.height, image.width), size)
        if image.mode in ("RGB", "RGBA") and scheme.palette:
            return labels_of_colours(np.asarray(image), scheme, path)
        values = _values(image, path)
    return labels_of_values(values, scheme, path, remedy=remedy)


def load_mask(path: str | Path, num_classes: int) -> Labels:
    """The labels 0 to ``num_classes - 1``, and 255, that a mask file holds; see ``read_mask``.

    Colours say nothing here, since it is not known what they stand for: a mask of colours is an ``AnnotationError``.
    """
    if not 1 <= num_classes <= IGNORE:
        raise DataError(f"{path}: cannot be read with num_classes={num_classes}; a mask has 1 to {IGNORE} classes")
    names = tuple(f"class {label}" for label in range(num_classes))
    scheme = MaskScheme(class_names=names, stored=tuple(range(num_classes)), ignored=(IGNORE,), palette=())
    return read_mask(Path(path), root=None, scheme=scheme)


def _refuse_altered(image: Image.Image, path: Path) -> None:
    reason = _ALTERED.get(image.format or "")
    if image.format == "TIFF" and image.info.get("compression") in _LOSSY_TIFF:
        reason = "its compression is lossy, so its labels are not those that were drawn"
    if reason:
        raise AnnotationError(f"{path}: {reason}; export the masks as PNG")


def check_size(path: Path, found: Size, wanted: Size | None) -> None:
    """Raise ``AnnotationError`` where a mask has not the (height, width) of its picture."""
    if wanted is not None and found != wanted:
        raise SizeMismatchError(
            f"{path}: the mask is {found[1]}x{found[0]}, its picture {wanted[1]}x{wanted[0]}; export it at that size"
        )


def _values(image: Image.Image, path: Path) -> Int[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"]:
    """What the file holds for each pixel: palette index, gray value, or 0 and 1."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("P", "L") or image.mode.startswith("I"):
        return np.asarray(image)
    raise AnnotationError(f"{path}: a mask cannot be of mode {image.mode}; save it as 8-bit gray or palette PNG")


def labels_of_values(
    values: Int[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"], scheme: MaskScheme, path: Path, *, remedy: str
) -> Labels:
    """The label of each stored value; raises ``AnnotationError`` naming values that the scheme does not know."""
    table, known = _lookup(scheme)
    if values.dtype != np.uint8:
        outside = (values < 0) | (values > 255)
        if outside.any():
            raise _stray(values[outside], path, remedy)
        values = values.astype(np.uint8)
    values = np.ascontiguousarray(values)
    if not (good := cv2.LUT(values, known)).all():  # a lookup by NumPy's index takes eight times the memory
        raise _stray(values[good == 0], path, remedy)
    labels: Labels = cv2.LUT(values, table)
    return labels


@lru_cache(maxsize=16)
def _lookup(scheme: MaskScheme) -> tuple[UInt8[np.ndarray, "256"], UInt8[np.ndarray, "256"]]:
    """The label of each value, and 1 where the scheme knows the value."""
    table, known = np.full(256, IGNORE, dtype=np.uint8), np.zeros(256, dtype=np.uint8)
    table[list(scheme.stored)] = np.arange(len(scheme.stored), dtype=np.uint8)
    known[list(scheme.stored + scheme.ignored)] = 1
    return table, known


def _stray(values: Int[np.ndarray, " N"], path: Path, remedy: str) -> MaskValueError:
    found, counts = np.unique(values, return_counts=True)
    shown = ", ".join(f"{v} ({n} pixels)" for v, n in zip(found[:3].tolist(), counts[:3].tolist(), strict=True))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return MaskValueError(f"{path}: mask values that belong to no class: {shown}{more}; {remedy}")


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
