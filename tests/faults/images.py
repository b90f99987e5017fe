"""Pictures: every mode and orientation loads with its pixels, everything else is refused by name."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from mbvision.data.images import load_image, read_image
from tests.faults.case import Case
from tests.faults.pictures import GRAY, NOISE, SMOOTH, bad, encoded, file_of, good, png, zeros

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # Exif 2.32: what row 0 and column 0 show
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p[::-1].swapaxes(0, 1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p[:, ::-1].swapaxes(0, 1),
}


def image_cases() -> Iterator[Case]:
    yield from _modes()
    yield from _orientations()
    yield from _sizes()
    yield from _no_pictures()
    yield from _places()


def _modes() -> Iterator[Case]:
    alpha = np.dstack([NOISE, 255 - GRAY])
    deep = np.random.default_rng(6).integers(0, 65536, GRAY.shape).astype(np.uint16)
    scaled = np.round(deep / 257).astype(np.uint8)[..., None].repeat(3, 2)
    gray3 = GRAY[..., None].repeat(3, 2)
    palette = Image.fromarray(NOISE).quantize(16)
    coloured = np.array(palette.convert("RGB"))
    bilevel = Image.fromarray(GRAY).convert("1")
    black_white = np.array(bilevel.convert("RGB"))
    for kind in ("PNG", "BMP", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        make = partial(encoded, Image.fromarray(NOISE), kind, **options)
        yield good(f"RGB {kind}", f"rgb.{kind.lower()}", make, NOISE, quick=True)
        yield good(f"RGB {kind} named .jpg", "named.jpg", make, NOISE)
    yield good("gray PNG", "l.png", lambda: encoded(Image.fromarray(GRAY), "PNG"), gray3)
    yield good("gray and alpha", "la.png", lambda: encoded(Image.fromarray(NOISE[..., :2], "LA"), "PNG"), gray3)
    yield good("RGBA PNG keeps the colour", "rgba.png", lambda: encoded(Image.fromarray(alpha), "PNG"), NOISE)
    yield good("RGBA TIFF", "rgba.tif", lambda: encoded(Image.fromarray(alpha), "TIFF"), NOISE)
    yield good("palette PNG", "p.png", lambda: encoded(palette, "PNG"), coloured, quick=True)
    yield good("palette, one colour transparent", "pt.png", lambda: encoded(palette, "PNG", transparency=3), coloured)
    yield good(
        "palette, alpha table", "pa.png", lambda: encoded(palette, "PNG", transparency=bytes(range(16))), coloured
    )
    yield good("palette GIF", "p.gif", lambda: encoded(palette, "GIF"), coloured)
    yield good("palette BMP", "p.bmp", lambda: encoded(palette, "BMP"), coloured)
    yield good("bilevel PNG", "1.png", lambda: encoded(bilevel, "PNG"), black_white)
    yield good("bilevel TIFF, group 4", "1.tif", lambda: encoded(bilevel, "TIFF", compression="group4"), black_white)
    yield good("16-bit gray PNG", "16.png", lambda: encoded(Image.fromarray(deep), "PNG"), scaled, quick=True)
    yield good("16-bit gray TIFF", "16.tif", lambda: encoded(Image.fromarray(deep), "TIFF"), scaled)
    big_endian = Image.frombytes("I;16B", GRAY.shape[::-1], deep.astype(">u2").tobytes())
    yield good("16-bit gray TIFF, big-endian", "16b.tif", lambda: encoded(big_endian, "TIFF"), scaled)
    rows = b"".join(b"\0" + row.tobytes() for row in np.stack([deep] * 3, axis=2).astype(">u2"))
    rgb16 = png(GRAY.shape[1], GRAY.shape[0], 16, 2, zlib.compress(rows))
    yield good("16-bit RGB PNG", "rgb16.png", lambda: rgb16, scaled, off=1)
    cmyk = Image.fromarray(NOISE).convert("CMYK")
    yield good("CMYK TIFF", "cmyk.tif", lambda: encoded(cmyk, "TIFF"), np.array(cmyk.convert("RGB")))
    jpeg = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    yield good("CMYK JPEG", "cmyk.jpg", lambda: jpeg, SMOOTH, off=12)
    smooth_gray = encoded(Image.fromarray(SMOOTH[..., 0]), "JPEG", quality=95)
    yield good("gray JPEG", "l.jpg", lambda: smooth_gray, SMOOTH, off=4, quick=True)
    for options in ({"progressive": True}, {"subsampling": 2}, {"optimize": True}, {"comment": b"x" * 60000}):
        data = encoded(Image.fromarray(SMOOTH), "JPEG", quality=95, **options)
        yield good(f"JPEG with {next(iter(options))}", "a.jpg", lambda data=data: data, SMOOTH, off=6)
    blank = np.full((32, 32, 3), 128, dtype=np.uint8)
    yield good("a JPEG that is really gray", "gray.jpg", lambda: encoded(Image.fromarray(blank), "JPEG"), blank, off=1)
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        frames = [Image.fromarray(p).quantize(4) if kind == "GIF" else Image.fromarray(p) for p in (blank, 255 - blank)]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        yield good(f"the first frame of a {kind}", f"two.{kind.lower()}", lambda data=data: data, blank, off=4)
    floating = Image.fromarray(GRAY.astype(np.float32))
    yield bad("floating-point TIFF", "f.tif", lambda: encoded(floating, "TIFF"), "floating-point", quick=True)
    yield bad("32-bit TIFF", "i.tif", lambda: encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"), "32-bit")
    lab = Image.frombytes("LAB", GRAY.shape[::-1], NOISE.tobytes())
    to_rgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    coloured = np.array(ImageCms.applyTransform(lab, to_rgb))
    yield good("LAB TIFF", "lab.tif", lambda: encoded(lab, "TIFF"), coloured, off=1)


def _orientations() -> Iterator[Case]:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        source = SMOOTH if kind == "JPEG" else NOISE
        for number in (*range(1, 9), 0, 9, 65535):
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = number
            options: dict[str, Any] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
            data = encoded(Image.fromarray(source), kind, exif=exif, **options)
            wanted = UPRIGHT.get(number, UPRIGHT[1])(source)
            off = 4 if kind == "JPEG" else 0
            name = f"EXIF orientation {number} in {kind}"
            yield good(name, f"o{number}.bin", lambda data=data: data, wanted, off=off, quick=number == 6)
    wild = encoded(Image.fromarray(SMOOTH), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x80" * 40)
    yield good("EXIF data that are noise", "noise.jpg", lambda: wild, SMOOTH, off=4)


def _sizes() -> Iterator[Case]:
    for height, width in ((1, 1), (1, 4000), (4000, 1), (2, 3)):
        pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
        data = encoded(Image.fromarray(pixels), "PNG")
        yield good(f"{width}x{height}", "small.png", lambda data=data: data, pixels)
    for bits, colour, what, row_bytes in ((8, 2, "RGB", 30000), (16, 0, "16-bit gray", 20000), (8, 6, "RGBA", 40000)):
        make = file_of("large.png", lambda b=bits, c=colour, n=row_bytes: png(10000, 10000, b, c, zeros(10000, n)))
        yield Case(
            kind="image", name=f"100 million black pixels, {what}", make=make, use=load_image, loads=_is_large_black
        )
    for width, height in ((200_000, 200_000), (2**31 - 1, 2**31 - 1), (10001, 10000)):
        data = png(width, height, 8, 2, zlib.compress(b"\0" * 100))
        yield bad(f"a PNG header that says {width}x{height}", "bomb.png", lambda data=data: data, quick=True)
    yield bad(
        "a GIF header that says 65535x65535", "bomb.gif", lambda: b"GIF89a\xff\xff\xff\xff\xf0\0\0" + b"\0" * 6 + b";"
    )
    bmp = (
        b"BM"
        + struct.pack("<IHHI", 58, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    yield bad("a BMP header that says 60000x60000", "bomb.bmp", lambda: bmp + b"\0\0\0\0")
    yield bad("a PNG of no width", "none.png", lambda: png(0, 5, 8, 2, zlib.compress(b"")))


def _is_large_black(found: Any) -> bool:
    return bool(found.shape == (10000, 10000, 3) and found.dtype == np.uint8 and not found.any())


def _no_pictures() -> Iterator[Case]:
    contents = {
        "empty": b"",
        "one byte": b"\xff",
        "text": b"this is no picture\n" * 50,
        "HTML, as a failed download": b"<!DOCTYPE html><html><body>404</body></html>",
        "noise": np.random.default_rng(8).bytes(5000),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "SVG with an outside entity": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>',
        "PPM": encoded(Image.fromarray(NOISE), "PPM"),
        "icon": encoded(Image.fromarray(NOISE), "ICO"),
        "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n",
        "a NumPy array": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 3), }"
        + b" " * 60
        + b"\n\0\0\0",
        "only a JPEG's start": b"\xff\xd8\xff\xe0",
        "only a PNG's start": b"\x89PNG\r\n\x1a\n",
        "zeros": bytes(4096),
    }
    for name, content in contents.items():
        yield bad(name, "x.jpg", lambda content=content: content, quick=name in ("empty", "text", "PostScript"))


def _places() -> Iterator[Case]:
    good = encoded(Image.fromarray(NOISE), "PNG")

    def place(name: str, make: Callable[[Path], Path], *words: str, quick: bool = False) -> Case:
        return Case(kind="image", name=name, make=make, use=load_image, error=words, quick=quick)

    def folder(base: Path) -> Path:
        (base / "f.jpg").mkdir()
        return base / "f.jpg"

    def pipe(base: Path) -> Path:
        os.mkfifo(base / "pipe.jpg")
        return base / "pipe.jpg"

    def link(target: str) -> Callable[[Path], Path]:
        def make(base: Path) -> Path:
            (base / "link.jpg").symlink_to(target)
            return base / "link.jpg"

        return make

    yield place("missing", lambda base: base / "none.jpg", "none.jpg", "no such", quick=True)
    yield place("a folder", folder, "f.jpg", quick=True)
    yield place("a pipe", pipe, "pipe.jpg", quick=True)
    yield place("a link to a device", link("/dev/zero"), "link.jpg")
    yield place("a link to nothing", link("nowhere.jpg"), "link.jpg")
    yield place("a link to itself", link("link.jpg"), "link.jpg")
    yield place("a null character in the name", lambda base: base / "a\0b.jpg", "a\\x00b.jpg")
    yield place("a line break in the name", lambda base: base / "a\nb.jpg", "a\\nb.jpg")
    yield place("a name of 5000 characters", lambda base: base / ("a" * 5000), "aaaa")
    yield place("half of a pair of surrogates in the name", lambda base: base / "a\ud800.jpg", ".jpg")
    yield place("a URL", lambda base: Path("http://127.0.0.1:9/a.jpg"), "a.jpg")

    def outward(base: Path) -> tuple[Path, Path]:
        (base / "set").mkdir()
        (base / "other.png").write_bytes(good)
        (base / "set" / "out.png").symlink_to(base / "other.png")
        return base / "set" / "out.png", base / "set"

    yield Case(
        kind="image",
        name="a link that leaves the folder of the set",
        make=outward,
        use=lambda given: read_image(given[0], root=given[1]),
        error=("out.png", "leads out"),
        quick=True,
    )
