"""Masks: labels as they are stored, and everything else refused with the value, the colour or the format."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mbvision.data.masks import load_mask, mask_scheme, read_mask
from tests.faults.case import Case
from tests.faults.pictures import chunk, encoded, png, zeros

CLASSES = 5
LABELS = np.random.default_rng(3).integers(0, CLASSES, (20, 31)).astype(np.uint8)
LABELS[:2] = 255
SCHEME = mask_scheme([f"class {label}" for label in range(CLASSES)], source="test")


def mask_cases() -> Iterator[Case]:
    yield from _good()
    yield from _refused()


def _case(
    name: str, content: Callable[[], bytes], *, quick: bool = False, classes: int = CLASSES, **expected: Any
) -> Case:
    def make(folder: Path) -> Path:
        (folder / "mask.png").write_bytes(content())
        return folder / "mask.png"

    return Case(kind="mask", name=name, make=make, use=lambda path: load_mask(path, classes), quick=quick, **expected)


def _gives(labels: np.ndarray) -> Callable[[Any], bool]:
    return lambda found: found.dtype == np.uint8 and np.array_equal(found, labels)


def _palette(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels).convert("L")
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    return image


def _good() -> Iterator[Case]:
    gray, same = Image.fromarray(LABELS), _gives(LABELS)
    yield _case("8-bit gray", lambda: encoded(gray, "PNG"), loads=same, quick=True)
    yield _case("palette indices, not colours", lambda: encoded(_palette(LABELS), "PNG"), loads=same, quick=True)
    yield _case("a palette with transparency", lambda: encoded(_palette(LABELS), "PNG", transparency=1), loads=same)
    yield _case("16 bits", lambda: encoded(Image.fromarray(LABELS.astype(np.uint16)), "PNG"), loads=same)
    yield _case("32-bit TIFF", lambda: encoded(Image.fromarray(LABELS.astype(np.int32)), "TIFF"), loads=same)
    yield _case("BMP", lambda: encoded(gray, "BMP"), loads=same)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield _case("EXIF orientation is left alone", lambda: encoded(gray, "PNG", exif=exif), loads=same)
    yield _case("EXIF orientation in TIFF", lambda: encoded(gray, "TIFF", exif=exif), loads=same)
    nothing = np.full_like(LABELS, 255)
    yield _case("all 255", lambda: encoded(Image.fromarray(nothing), "PNG"), loads=_gives(nothing), quick=True)
    bits = LABELS < 2
    yield _case("1 bit", lambda: encoded(Image.fromarray(bits), "PNG"), loads=_gives(bits.astype(np.uint8)))
    yield _case("a single pixel", lambda: encoded(Image.fromarray(LABELS[:1, :1]), "PNG"), loads=_gives(LABELS[:1, :1]))
    for bits_deep, row_bytes in ((8, 10000), (16, 20000)):
        yield _case(
            f"100 million pixels of {bits_deep} bits",
            lambda b=bits_deep, n=row_bytes: png(10000, 10000, b, 0, zeros(10000, n)),
            loads=lambda found: found.shape == (10000, 10000) and not found.any(),
        )


def _refused() -> Iterator[Case]:
    gray = Image.fromarray(LABELS)
    stray = LABELS.copy()
    stray[5, 5:8] = 77
    deep = LABELS.astype(np.uint16)
    deep[5, 5] = 7000
    colour = np.zeros((20, 31, 3), dtype=np.uint8)
    plain = zlib.compress(b"".join(b"\0" + row.tobytes() for row in LABELS), 0)
    bad: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
        "a label that is no class": (lambda: encoded(Image.fromarray(stray), "PNG"), ("77", "3 pixels")),
        "a label one too high": (lambda: encoded(Image.fromarray(np.full_like(LABELS, CLASSES)), "PNG"), ("5",)),
        "a 16-bit label that is no class": (lambda: encoded(Image.fromarray(deep), "PNG"), ("7000",)),
        "a negative label": (lambda: encoded(Image.fromarray(LABELS.astype(np.int32) - 9), "TIFF"), ("-9",)),
        "colours": (lambda: encoded(Image.fromarray(colour + 128), "PNG"), ("RGB",)),
        "colours, all black": (lambda: encoded(Image.fromarray(colour), "PNG"), ("RGB",)),
        "gray in three channels": (lambda: encoded(gray.convert("RGB"), "PNG"), ("RGB",)),
        "colours with alpha": (lambda: encoded(gray.convert("RGBA"), "PNG"), ("RGB",)),
        "gray with alpha": (lambda: encoded(gray.convert("LA"), "PNG"), ("LA",)),
        "JPEG": (lambda: encoded(gray, "JPEG"), ("JPEG",)),
        "GIF": (lambda: encoded(gray, "GIF"), ("GIF",)),
        "lossy WebP": (lambda: encoded(gray.convert("RGB"), "WEBP"), ()),
        "a TIFF in JPEG": (lambda: encoded(gray, "TIFF", compression="jpeg"), ("lossy",)),
        "floating point": (lambda: encoded(Image.fromarray(LABELS.astype(np.float32)), "TIFF"), ("mode F",)),
        "CMYK": (lambda: encoded(gray.convert("CMYK"), "TIFF"), ("CMYK",)),
        "empty": (lambda: b"", ()),
        "text": (lambda: b"0 0 0 1 1\n", ()),
        "cut": (lambda: encoded(gray, "PNG")[:150], ()),
        "half of its rows": (lambda: png(31, 20, 8, 0, zlib.compress(bytes(32 * 10))), ("rows",)),
        "a flipped byte": (
            lambda: png(31, 20, 8, 0, plain[:90] + b"\2" + plain[91:], checksum=zlib.crc32(b"IDAT" + plain)),
            ("checksum",),
        ),
        "a header that says 200000x200000": (lambda: png(200_000, 200_000, 8, 0, zlib.compress(b"\0")), ()),
        "no pixels": (lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)), ()),
    }
    for name, (content, words) in bad.items():
        yield _case(
            name, content, error=("mask.png", *words), quick=name in ("colours", "JPEG", "a label that is no class")
        )
    for classes in (0, -1, 256):
        yield _case(
            f"{classes} classes", lambda: encoded(gray, "PNG"), classes=classes, error=("mask.png", str(classes))
        )

    def place(name: str, make: Callable[[Path], Any], use: Callable[[Any], Any], *words: str) -> Case:
        return Case(kind="mask", name=name, make=make, use=use, error=("mask.png", *words))

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "mask.png")
        return folder / "mask.png"

    def outward(folder: Path) -> tuple[Path, Path]:
        gray.save(folder.parent / "outside" / "other.png")
        (folder / "mask.png").symlink_to(folder.parent / "outside" / "other.png")
        return folder / "mask.png", folder

    def small(folder: Path) -> Path:
        gray.save(folder / "mask.png")
        return folder / "mask.png"

    yield place("a pipe", pipe, lambda path: load_mask(path, CLASSES))
    yield place("missing", lambda folder: folder / "mask.png", lambda path: load_mask(path, CLASSES))
    yield place(
        "a link to outside", outward, lambda given: read_mask(given[0], root=given[1], scheme=SCHEME), "leads out"
    )
    yield place(
        "another size than its picture",
        small,
        lambda path: read_mask(path, root=None, scheme=SCHEME, size=(20, 32)),
        "31x20",
        "32x20",
    )
