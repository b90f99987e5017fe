"""Kinds of images that are not read: how to recognise them by content or by suffix, and how to convert them."""

_HEIC = "HEIC: convert with `heif-convert IN.heic OUT.jpg`, or set the camera to JPEG"
_AVIF = "AVIF: Pillow 11.3 and newer read it (pip install -U pillow), or convert with `avifdec IN.avif OUT.png`"
_JPEG_XL = "JPEG XL: convert with `djxl IN.jxl OUT.png`"
_JPEG_2000 = "JPEG 2000: convert with `opj_decompress -i IN.jp2 -o OUT.png`"
_SVG = "SVG: render with `rsvg-convert IN.svg -o OUT.png`"
_PHOTOSHOP = "Photoshop: export as PNG"
_RAW = "camera raw: develop it to JPEG or TIFF"
_OTHER = "convert with `magick IN OUT.png`"

CONVERSIONS = {
    ".heic": _HEIC,
    ".heif": _HEIC,
    ".hif": _HEIC,
    ".avif": _AVIF,
    ".jxl": _JPEG_XL,
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpf", ".jpx"), _JPEG_2000),
    ".svg": _SVG,
    ".psd": _PHOTOSHOP,
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"), _RAW),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".tga", ".exr", ".hdr", ".ico"), _OTHER),
}
"""By suffix, the kind and how to convert it."""

# ISO/IEC 23008-12 and the AVIF specification: the brands of an ``ftyp`` box that say what an ISO file holds.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def other_kind(head: bytes) -> str | None:
    """The kind of an image that is not read, and how to convert it, by the first 64 bytes of its file; None if unknown.

    A file that holds both HEIC's general brand ``mif1`` and AVIF's is AVIF.
    """
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[start : start + 4] for start in (8, *range(16, length - 3, 4))]
        if any(brand in _AVIF_BRANDS for brand in brands):
            return _AVIF
        return _HEIC if any(brand in _HEIC_BRANDS for brand in brands) else None
    starts = {  # ISO/IEC 18181-2 (JPEG XL), ISO/IEC 15444-1 (JPEG 2000)
        b"\xff\x0a": _JPEG_XL,
        b"\0\0\0\x0cJXL ": _JPEG_XL,
        b"\0\0\0\x0cjP  ": _JPEG_2000,
        b"\xff\x4f\xff\x51": _JPEG_2000,
        b"8BPS": _PHOTOSHOP,
        b"<svg": _SVG,
    }
    return next((kind for start, kind in starts.items() if head.startswith(start)), None)
