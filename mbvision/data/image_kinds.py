"""Which kinds of images are read; of those that are not, how to recognise them, and how to convert them."""

from typing import NamedTuple

from PIL import features

_READS_AVIF = "avif" in features.modules and features.check_module("avif")  # Pillow 11.3 and newer
_READS_JPEG_2000 = features.check_codec("jpg_2000")

FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"),
    *(("AVIF",) if _READS_AVIF else ()),
    *(("JPEG2000",) if _READS_JPEG_2000 else ()),
)
"""Told apart by content, never by suffix; of several frames or pages the first is read."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *((".avif",) if _READS_AVIF else ()),
    *((".jp2", ".j2k") if _READS_JPEG_2000 else ()),
)


class Kind(NamedTuple):
    """A kind of image, Pillow's name of its format where it has one, and how to turn it into one that is read."""

    name: str
    conversion: str
    format: str = ""


_HEIC = Kind("HEIC", "convert it with `heif-convert IN.heic OUT.jpg`, or set the camera to JPEG")
_AVIF = Kind("AVIF", "install Pillow 11.3 or newer, or convert it with `avifdec IN.avif OUT.png`", "AVIF")
_JPEG_XL = Kind("JPEG XL", "convert it with `djxl IN.jxl OUT.png`")
_JPEG_2000 = Kind("JPEG 2000", "convert it with `opj_decompress -i IN.jp2 -o OUT.png`", "JPEG2000")
_SVG = Kind("SVG", "render it with `rsvg-convert IN.svg -o OUT.png`")
_PHOTOSHOP = Kind("Photoshop", "export it as PNG")
_RAW = Kind("camera raw", "develop it to JPEG")
_RARE = Kind("an uncommon kind", "convert it with `magick IN OUT.png`")

KINDS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIC),
    **dict.fromkeys((".avif", ".avifs"), _AVIF),
    ".jxl": _JPEG_XL,
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), _JPEG_2000),
    ".svg": _SVG,
    ".psd": _PHOTOSHOP,
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"), _RAW),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".tga", ".exr", ".hdr", ".ico"), _RARE),
}
"""By suffix."""

HEAD_BYTES = 64
"""As many of a file's first bytes say what it is."""

# ISO/IEC 23008-12 and the AVIF specification: the brands in the box ``ftyp`` say what an ISO file holds.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_STARTS = {  # ISO/IEC 18181-2 (JPEG XL), ISO/IEC 15444-1 (JPEG 2000)
    b"\xff\x0a": _JPEG_XL,
    b"\0\0\0\x0cJXL ": _JPEG_XL,
    b"\0\0\0\x0cjP  ": _JPEG_2000,
    b"\xff\x4f\xff\x51": _JPEG_2000,
    b"8BPS": _PHOTOSHOP,
    b"<svg": _SVG,
}


def kind_of(head: bytes) -> Kind | None:
    """The kind of an image by its first bytes, of those that are in `KINDS`; None if it is none of them.

    A file with a brand of AVIF is AVIF, though it may have HEIC's general ones too.
    """
    if head[4:8] != b"ftyp":
        return next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[start : start + 4] for start in (8, *range(16, length - 3, 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return _AVIF
    return _HEIC if any(brand in _HEIC_BRANDS for brand in brands) else None
