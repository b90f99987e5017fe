"""Masks as files, as the evaluation servers and other programs want them: one PNG an image, of the stored values."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mbvision.structures import IGNORE, MaskScheme
from mbvision.writing import replacing

VOID_COLOUR = (224, 224, 192)
"""The colour of 255 in Pascal VOC's palette."""


def write_voc_mask(folder: Path, image_id: int | str, labels: UInt8[np.ndarray, "H W"], scheme: MaskScheme) -> Path:
    """Write ``ID.png`` with the scheme's palette, as Pascal VOC's server takes it; returns its path.

    Raises:
        ValueError: a label is no class of the scheme.
        OSError: the file cannot be written; an old one is left as it was.
    """
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[IGNORE] = VOID_COLOUR
    colours[list(scheme.stored)] = scheme.palette
    image = _stored(labels, scheme)
    image.putpalette(colours.tobytes())  # makes it a palette image
    return _write(image, folder / f"{_file_stem(image_id)}.png")


def write_cityscapes_mask(
    folder: Path, image_id: int | str, labels: UInt8[np.ndarray, "H W"], scheme: MaskScheme
) -> Path:
    """Write ``CITY_SEQ_FRAME_leftImg8bit_pred_labelIds.png`` for the image id ``CITY_SEQ_FRAME``; returns its path.

    It holds label ids in gray; Cityscapes' scripts and server look for ``CITY_SEQ_FRAME*.png``. Raises as
    `write_voc_mask` does.
    """
    return _write(_stored(labels, scheme), folder / f"{_file_stem(image_id)}_leftImg8bit_pred_labelIds.png")


def mask_writer(folder: Path, scheme: MaskScheme) -> Callable[[int | str, UInt8[np.ndarray, "H W"]], Path]:
    """What writes masks into ``folder`` as the data set's server wants them: Cityscapes' label ids, or with palette."""

    def write(image_id: int | str, labels: UInt8[np.ndarray, "H W"]) -> Path:
        if scheme.categories:  # only Cityscapes groups its classes
            return write_cityscapes_mask(folder, image_id, labels, scheme)
        return write_voc_mask(folder, image_id, labels, scheme)

    return write


def _file_stem(image_id: int | str) -> str:
    """The id as a file's name: an id comes from a file of annotations and may hold anything."""
    return re.sub(r"[^\w.-]", "_", str(image_id)).lstrip(".") or "_"


def _stored(labels: UInt8[np.ndarray, "H W"], scheme: MaskScheme) -> Image.Image:
    """The gray picture of what the data set's own files hold for these classes."""
    if labels.size and labels.max() >= len(scheme.stored):
        raise ValueError(f"label {labels.max()} is none of the {len(scheme.stored)} classes")
    return Image.fromarray(np.array(scheme.stored, dtype=np.uint8)[labels])


def _write(image: Image.Image, path: Path) -> Path:
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
    return path
