"""Every picture of a split read as training reads it: which cannot be, which way up they are, what their masks hold."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from tqdm import tqdm

from mbvision.data.base import Reader
from mbvision.data.images import exif_orientation, stored_size
from mbvision.data_checks.findings import Finding
from mbvision.data_checks.same_pictures import CELLS, fingerprint, is_blank
from mbvision.errors import AnnotationError, DataError, ImageError, MaskColourError, MaskValueError, SizeMismatchError
from mbvision.structures import IGNORE, BoxAnnotations, Sample

_CHUNK = 512
"""Pictures under way at a time; what is kept of each is small."""

_CAUSES: Mapping[type[DataError], str] = {
    ImageError: "picture_unreadable",
    SizeMismatchError: "wrong_size",
    MaskValueError: "mask_values",
    MaskColourError: "mask_colours",
    AnnotationError: "mask_unreadable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is kept of a picture: its fingerprint, None where it cannot serve, and the pixels of each mask value."""

    findings: tuple[Finding, ...]
    file: str
    fingerprint: UInt8[np.ndarray, "192"] | None = None
    mask_pixels: Int[np.ndarray, "256"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """All pictures of a split. Rows of ``fingerprints`` belong to the pictures ``printed``."""

    findings: tuple[Finding, ...]
    files: tuple[str, ...]
    printed: Int[np.ndarray, " P"]
    fingerprints: UInt8[np.ndarray, "P 192"]
    mask_pixels: Int[np.ndarray, "I 256"] | None
    seen: int


def look_at_all(reader: Reader, split: str, *, workers: int, progress: bool = True) -> Looks:
    """Read every picture once, ``workers`` at a time: decoding leaves Python's lock, so threads do."""
    looks: list[Look] = []
    one = partial(_look, reader, split, _file_names(reader))
    with tqdm(total=len(reader), desc=f"reading {split}", unit="picture", mininterval=1, disable=not progress) as bar:
        for look in _in_threads(one, len(reader), workers):
            looks.append(look)
            bar.update()
    prints = [look.fingerprint for look in looks if look.fingerprint is not None]
    masks = [look.mask_pixels for look in looks]
    none = np.zeros(256, dtype=np.int64)
    any_mask = any(mask is not None for mask in masks)
    return Looks(
        findings=tuple(finding for look in looks for finding in look.findings),
        files=tuple(look.file for look in looks),
        printed=np.array([i for i, look in enumerate(looks) if look.fingerprint is not None], dtype=np.int64),
        fingerprints=np.array(prints, dtype=np.uint8).reshape(-1, CELLS * CELLS * 3),
        mask_pixels=np.stack([none if mask is None else mask for mask in masks]) if any_mask else None,
        seen=len(looks),
    )


def _in_threads(one: "partial[Look]", count: int, workers: int) -> Iterator[Look]:
    numbers = iter(range(count))
    if workers < 2:
        yield from map(one, numbers)
        return
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(numbers, _CHUNK)):
            yield from pool.map(one, chunk)


def _file_names(reader: Reader) -> Sequence[str]:
    """The names that the annotations have for the pictures; those of boxes come first in every reader."""
    boxes = reader.truth.get("detection")
    return boxes.file_names if isinstance(boxes, BoxAnnotations) else ()


def _look(reader: Reader, split: str, names: Sequence[str], index: int) -> Look:
    try:
        sample = reader.read(index)
    except DataError as error:
        path, _, reason = str(error).partition(": ")
        cause = next(_CAUSES[kind] for kind in type(error).__mro__ if kind in _CAUSES)
        file = _name(names, index, path) if cause in ("picture_unreadable", "wrong_size") else path
        return Look(findings=(Finding(cause=cause, split=split, file=file, detail=reason, picture=index),), file=file)
    file = _name(names, index, sample.path)
    found = [
        Finding(cause=cause, split=split, file=file, detail=detail, picture=index)
        for cause, detail in _oddities(sample)
    ]
    prints = fingerprint(sample.image)
    pixels: Int[np.ndarray, "256"] | None = None
    if sample.target.mask is not None:
        pixels = np.bincount(sample.target.mask.numpy().ravel(), minlength=256)
        if pixels[IGNORE] == pixels.sum():
            found.append(Finding(cause="mask_ignored", split=split, file=file, picture=index))
    if is_blank(sample.image, prints):
        colour = ", ".join(str(value) for value in sample.image[0, 0].tolist())
        found.append(Finding(cause="blank_picture", split=split, file=file, detail=f"RGB {colour}", picture=index))
        return Look(findings=tuple(found), file=file, mask_pixels=pixels)
    return Look(findings=tuple(found), file=file, fingerprint=prints, mask_pixels=pixels)


def _name(names: Sequence[str], index: int, path: str) -> str:
    """The annotations' name of the file, where they have one."""
    return names[index] if index < len(names) and path.endswith(names[index]) else path


def _oddities(sample: Sample) -> Iterator[tuple[str, str]]:
    """Which frame the labels are in, where EXIF leaves two. PNGs hardly ever have EXIF, and would be decoded for it."""
    target, path = sample.target, Path(sample.path)
    if path.suffix.lower() == ".png" or (target.boxes is None and target.mask is None):
        return
    orientation = exif_orientation(path)
    if orientation == 1:
        return
    height, width = stored_size(path)
    detail = f"orientation {orientation}, stored {width}x{height}"
    if orientation < 5 or height == width:
        yield "exif_unclear", detail
    elif target.geometry.original == (height, width):
        yield "exif_stored", detail
