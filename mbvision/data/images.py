"""The one door for pictures: files on disk, and PIL images handed over by a caller, become ``uint8 [H, W, 3]`` RGB.

"Stored" is the picture as its file holds it, "upright" is after its EXIF orientation. Nothing here ever fills in
missing pixels: a file that is cut or damaged is an ``ImageError``.
"""

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from mbvision.data.image_checks import bad_png_chunk, decode_jpeg, has_blank_block, is_short_png
from mbvision.data.image_kinds import FORMATS, HEAD_BYTES, kind_of
from mbvision.data.image_kinds import SUFFIXES as SUFFIXES
from mbvision.errors import ImageError
from mbvision.files import check_file

MAX_PIXELS = 100_000_000
"""Pictures above this many pixels are refused before they are decoded."""

_EXIF_KEYS = ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp")
# The EXIF orientation is how to turn the stored picture so that it stands upright (Exif 2.32, tag 0x0112).
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TO_STORED = _TO_UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
# The same on arrays.
_TURNS: dict[Image.Transpose, Callable[[np.ndarray], np.ndarray]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda pixels: pixels[:, ::-1],
    Image.Transpose.ROTATE_180: lambda pixels: pixels[::-1, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda pixels: pixels[::-1],
    Image.Transpose.TRANSPOSE: lambda pixels: pixels.swapaxes(0, 1),
    Image.Transpose.ROTATE_270: lambda pixels: pixels[::-1].swapaxes(0, 1),
    Image.Transpose.TRANSVERSE: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    Image.Transpose.ROTATE_90: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
_STRIP_PIXELS = 8 * 1024 * 1024
# 65535 = 255 * 257: scaling by 257 keeps black, white and all that was 8 bits wide before.
_EIGHT_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)
_damaged: set[Path] = set()  # warned of, by this process
_logger = logging.getLogger(__name__)


def read_image(
    path: Path, *, root: Path | None = None, max_pixels: int = MAX_PIXELS, upright: bool = True
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of a file, writable; gray is replicated, alpha dropped, 16 bits are scaled by 257.

    With ``root`` the file must lie inside that folder, links followed. ``upright=False`` leaves the EXIF orientation
    unapplied. Raises ``ImageError`` for everything that is not a whole image of a known format. A JPEG with damaged
    data but no missing pixels is warned of, once in a process.
    """
    with open_checked(path, root, max_pixels) as image:
        if image.format in ("JPEG", "MPO"):
            turn, pixels = _decoded_jpeg(image, path, upright)
        else:
            turn, pixels = _decoded(image, str(path), upright)
    del image  # a large one should not be there twice while it is turned
    return _turned(pixels, turn)


def _decoded_jpeg(
    image: Image.Image, path: Path, upright: bool
) -> tuple[Image.Transpose | None, UInt8[np.ndarray, "H W 3"]]:
    """As `_decoded`, by a decoder that reports what libjpeg corrects in damaged data; Pillow does not."""
    cmyk = image.mode == "CMYK"  # which Pillow converts to RGB and that decoder does not
    complaint = ""
    try:
        pixels = decode_jpeg(path.read_bytes(), "CMYK" if cmyk else "RGB")
    except ValueError as error:
        complaint = str(error)
    if not complaint and not cmyk:
        return _TO_UPRIGHT.get(_orientation(image, str(path))) if upright else None, pixels
    turn, pixels = _decoded(image, str(path), upright)
    if complaint and has_blank_block(pixels):
        raise ImageError(f"{path}: cut short or damaged: some of its pixels are missing ({complaint})")
    if complaint and path not in _damaged:
        _damaged.add(path)
        _logger.warning("%s: damaged (%s), some pixels may be wrong; %d such images", path, complaint, len(_damaged))
    return turn, pixels


def load_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """The upright picture of a file; see ``read_image``."""
    return read_image(Path(path))


def decode_image(
    image: Image.Image, *, name: str = "image", max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "H W 3"]:
    """A caller's PIL image by the rules of ``read_image``; ``name`` stands in error messages."""
    _check_pixels(image, name, max_pixels)
    turn, pixels = _decoded(image, name, upright=True)
    return _turned(pixels, turn)


def image_size(path: Path, *, root: Path | None = None) -> tuple[int, int]:
    """The upright (height, width) of a picture, from its header: what ``read_image`` gives, without decoding.

    A PNG may hold its EXIF data behind the pixels, so a PNG without any in front is decoded.
    """
    height, width, orientation = _header(path, root)
    return (width, height) if orientation >= 5 else (height, width)


def stored_size(path: Path, *, root: Path | None = None) -> tuple[int, int]:
    """The (height, width) of a picture as its file holds it, before EXIF orientation."""
    height, width, _ = _header(path, root)
    return height, width


def exif_orientation(path: Path, *, root: Path | None = None) -> int:
    """The EXIF orientation of a picture, 1 (upright) to 8, from its header; of a PNG as in `image_size`."""
    return _header(path, root)[2] or 1


def load_as_stored(image: Image.Image, name: str) -> Image.Image:
    """Decode an image of `open_checked` in its own mode and as its file holds it, whatever its orientation says."""
    turn = _TO_STORED.get(_tiff_orientation(image))
    _load(image, name)
    return image if turn is None else image.transpose(turn)


def _header(path: Path, root: Path | None) -> tuple[int, int, int]:
    """Stored height, stored width and orientation."""
    with open_checked(path, root, max_pixels=None) as image:
        turned_by_pillow = _tiff_orientation(image)
        if turned_by_pillow:  # Pillow tells the upright size of a TIFF
            width, height = image.size[::-1] if turned_by_pillow >= 5 else image.size
            return height, width, turned_by_pillow
        if image.format == "PNG" and "exif" not in image.info:
            _check_pixels(image, str(path), MAX_PIXELS)
            _load(image, str(path))
        return image.height, image.width, _orientation(image, str(path))


@contextmanager
def open_checked(path: Path, root: Path | None, max_pixels: int | None) -> Iterator[Image.Image]:
    """Check the file and read the picture's header; the pixels are still to be decoded. Raises ``ImageError``."""
    check_file(
        path,
        error=ImageError,
        what="picture",
        remedy="check its path; of a data set data.images= and the annotations' file names",
        root=root,
    )
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below; the errors of reading are not those of opening)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened: {error.strerror}") from error
    with file:
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ImageError(f"{path}: {_why_unidentified(file)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(f"{path}: {error}; scale the picture down") from error
        except Exception as error:  # Pillow's format readers raise a dozen kinds
            raise ImageError(f"{path}: damaged header: {error}") from error
        with image:
            if max_pixels is not None:
                _check_pixels(image, str(path), max_pixels)
            yield image


def _why_unidentified(file: IO[bytes]) -> str:
    """What a file is that is none of `FORMATS`, by its first bytes."""
    file.seek(0)
    kind = kind_of(file.read(HEAD_BYTES))
    if kind is None or kind.format in FORMATS:
        return f"not an image, or damaged at its start; readable are {', '.join(FORMATS)}"
    return f"{kind.name}, which is not read; {kind.conversion}"


def _check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{name}: {image.width}x{image.height} is above the limit of {max_pixels} pixels; "
            "scale the picture down or raise data.max_pixels="
        )


def _load(image: Image.Image, name: str) -> None:
    file = getattr(image, "fp", None)  # None where a caller's picture is decoded already
    if image.format == "PNG" and file is not None and (place := bad_png_chunk(file)) is not None:
        raise ImageError(f"{name}: damaged: the checksum of its pixels at byte {place} is wrong; get it anew")
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise ImageError(f"{name}: cut short or damaged: {error}") from error
    if image.mode == "P" and image.palette is None:
        raise ImageError(f"{name}: damaged: it has no palette; save it anew")
    if image.format != "PNG" or file is None or file.closed:
        return
    if _last_row_is_blank(image) and is_short_png(file):
        raise ImageError(f"{name}: cut short or damaged: its rows end too early; get it anew")


def _last_row_is_blank(image: Image.Image) -> bool:
    return not np.asarray(image.crop((0, image.height - 1, image.width, image.height))).any()


def _decoded(image: Image.Image, name: str, upright: bool) -> tuple[Image.Transpose | None, UInt8[np.ndarray, "H W 3"]]:
    """The pixels, and how they are to be turned.

    Decoding comes first and alone, so that no error of it can be taken for one of EXIF's.
    """
    turned_by_pillow = _tiff_orientation(image)
    _load(image, name)
    if turned_by_pillow:
        turn = None if upright else _TO_STORED.get(turned_by_pillow)
    else:
        turn = _TO_UPRIGHT.get(_orientation(image, name)) if upright else None
    return turn, _rgb_array(image, name)


def _turned(pixels: UInt8[np.ndarray, "H W 3"], turn: Image.Transpose | None) -> UInt8[np.ndarray, "H2 W2 3"]:
    return pixels if turn is None else np.ascontiguousarray(_TURNS[turn](pixels))


def _rgb_array(image: Image.Image, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """One copy of the pixels; a large picture goes in strips, so that copies of other kinds stay small."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return np.array(_rgb(image, name, image.format))
    array = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        array[top:bottom] = _rgb(image.crop((0, top, width, bottom)), name, image.format)
    return array


def _rgb(image: Image.Image, name: str, kind: str | None) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode.startswith(("I", "F")):
        return np.repeat(_deep_gray(image, name, kind)[:, :, None], 3, axis=2)
    if image.mode == "RGB":
        return np.asarray(image)
    try:
        if image.mode in ("P", "PA"):  # keeps the colour below transparent pixels
            image = image.convert("RGBA")
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ImageError(f"{name}: colours of mode {image.mode} cannot be read; save the picture as RGB") from error


def _deep_gray(image: Image.Image, name: str, kind: str | None) -> UInt8[np.ndarray, "H W"]:
    """16-bit gray as 8 bits. (RGB of 16 bits comes from Pillow as its upper 8 bits, at most 1 off the scaled value.)"""
    if not (image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG")):
        what = "floating-point" if image.mode == "F" else "32-bit"
        raise ImageError(f"{name}: {what} pixels have no known range; save the picture with 8 or 16 bits")
    return _EIGHT_BITS[np.asarray(image)]


def _tiff_orientation(image: Image.Image) -> int:
    """The orientation that Pillow applies by itself when it loads a TIFF; 0 where it leaves that to us."""
    if image.format != "TIFF":
        return 0
    tags = getattr(image, "tag_v2", {})
    return _valid(tags.get(ExifTags.Base.Orientation, 0))


def _orientation(image: Image.Image, name: str) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none."""
    if not any(key in image.info for key in _EXIF_KEYS):
        return 1
    try:
        return _valid(image.getexif().get(ExifTags.Base.Orientation, 1)) or 1
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error, OSError) as error:
        _logger.warning("%s: its EXIF data is damaged (%s), taken as upright", name, error)
        return 1


def _valid(orientation: object) -> int:
    """An orientation of 1 to 8, else 0: writers leave 0 and worse there."""
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 0
