"""What a mask file holds: a value for each pixel (palette index, gray level) or a colour, and its palette."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mbvision.data.images import MAX_PIXELS, load_as_stored, open_checked
from mbvision.errors import AnnotationError, SizeMismatchError

Size = tuple[int, int]
Values = Int[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"]

_ALTERED = {
    "JPEG": "JPEG is lossy, so its labels are not those that were drawn",
    "AVIF": "AVIF is nearly always lossy, so its labels may not be those that were drawn",
    "JPEG2000": "JPEG 2000 is often lossy, so its labels may not be those that were drawn",
    "GIF": "GIF numbers its colours again, so its values are not those that were drawn",
}
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")


class MaskPixels(NamedTuple):
    """``values`` or ``colours``, whichever the file holds; ``palette`` has the colours of the values of 0..255."""

    values: Values | None = None
    colours: UInt8[np.ndarray, "H W 3"] | None = None
    palette: UInt8[np.ndarray, "256 3"] | None = None


def read_mask_pixels(
    path: Path, *, root: Path | None = None, size: Size | None = None, max_pixels: int = MAX_PIXELS
) -> MaskPixels:
    """The pixels of a mask file, which must have ``size`` (height, width) where that is given.

    EXIF is left alone. Raises ``ImageError``, or ``AnnotationError`` for a file whose values are not those drawn.
    """
    with open_checked(path, root, max_pixels) as image:
        _refuse_altered(image, path)
        bits = _bits(image)
        if bits == 16:  # Pillow keeps the upper 8, so class indices would all be black
            raise AnnotationError(f"{path}: 16 bits each of red, green and blue; save one channel, or 8-bit colours")
        image = load_as_stored(image, str(path))
        check_size(path, (image.height, image.width), size)
        if image.mode in ("RGB", "RGBA"):
            return MaskPixels(colours=np.asarray(image)[..., :3])
        if image.mode == "1":
            return MaskPixels(np.asarray(image).astype(np.uint8))
        if image.mode == "P":
            return MaskPixels(np.asarray(image), palette=_palette(image))
        if image.mode == "L":  # Pillow spreads gray of 2 and 4 bits over 0..255
            gray = np.asarray(image)
            return MaskPixels(gray if bits == 8 else gray // (255 // (2**bits - 1)))
        if image.mode.startswith("I"):
            return MaskPixels(np.asarray(image))
    raise AnnotationError(f"{path}: a mask cannot be of mode {image.mode}; save it as 8-bit gray or palette PNG")


def file_palette(path: Path) -> UInt8[np.ndarray, "256 3"] | None:
    """The palette of an image, from its header; None where it has none."""
    with open_checked(path, None, max_pixels=None) as image:
        return _palette(image) if image.mode == "P" else None


def check_size(path: Path, found: Size, wanted: Size | None) -> None:
    """Raise ``SizeMismatchError`` where a mask has not the (height, width) of its image."""
    if wanted is not None and found != wanted:
        raise SizeMismatchError(
            f"{path}: the mask is {found[1]}x{found[0]}, its image {wanted[1]}x{wanted[0]}; export it at that size"
        )


def _refuse_altered(image: Image.Image, path: Path) -> None:
    reason = _ALTERED.get(image.format or "")
    if image.format == "TIFF" and image.info.get("compression") in _LOSSY_TIFF:
        reason = "its compression is lossy, so its labels are not those that were drawn"
    if reason:
        raise AnnotationError(f"{path}: {reason}; export the masks as PNG")


def _bits(image: Image.Image) -> int:
    """The bits of a channel of an image that is not decoded yet: 2 or 4 of gray, 16 of colours, else 8."""
    tiles = getattr(image, "tile", None)  # of a file that Pillow opened; PIL has no types for it
    arguments = tiles[0][3] if tiles else ""
    stored_as = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
    if image.mode in ("RGB", "RGBA"):
        return 16 if ";16" in stored_as else 8
    return {"L;2": 2, "L;4": 4}.get(stored_as, 8)


def _palette(image: Image.Image) -> UInt8[np.ndarray, "256 3"]:
    """The palette of an image, black where it ends early."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    stored = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)[:256]
    colours[: len(stored)] = stored
    return colours
