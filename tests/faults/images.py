"""Pictures: every mode and orientation loads with its pixels, everything else is refused by name."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from mbvision.data.images import load_image, read_image
from tests.faults.case import Case

NOISE = np.random.default_rng(5).integers(0, 256, (24, 33, 3), dtype=np.uint8)
GRAY = NOISE[:, :, 0]
SMOOTH = np.stack(np.meshgrid(np.arange(96), np.arange(64)), axis=2).sum(axis=2, dtype=np.uint8)[..., None].repeat(3, 2)
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


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes, *, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *, checksum: int | None = None) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IDAT", rows, checksum=checksum)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def zeros(rows: int, row_bytes: int) -> bytes:
    """The packed rows of a black picture, made without holding it."""
    packer = zlib.compressobj(1)
    row = bytes(row_bytes + 1)
    return b"".join([*(packer.compress(row) for _ in range(rows)), packer.flush()])


def image_cases() -> Iterator[Case]:
    yield from _modes()
    yield from _orientations()
    yield from _sizes()
    yield from _no_pictures()
    yield from _damaged()
    yield from _cut()
    yield from _places()


def _good(name: str, file: str, content: Callable[[], bytes], pixels: np.ndarray, *, off: int = 0, quick: bool = False):
    def equal(found: Any) -> bool:
        same = found.dtype == np.uint8 and found.shape == pixels.shape
        return bool(same and np.abs(found.astype(int) - pixels).max() <= off)

    return Case(kind="image", name=name, make=_file(file, content), use=load_image, loads=equal, quick=quick)


def _bad(name: str, file: str, content: Callable[[], bytes], *words: str, quick: bool = False) -> Case:
    return Case(kind="image", name=name, make=_file(file, content), use=load_image, error=(file, *words), quick=quick)


def _file(file: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / file).write_bytes(content())
        return folder / file

    return make


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
        make = lambda kind=kind, options=options: encoded(Image.fromarray(NOISE), kind, **options)  # noqa: E731
        yield _good(f"RGB {kind}", f"rgb.{kind.lower()}", make, NOISE, quick=True)
        yield _good(f"RGB {kind} named .jpg", "named.jpg", make, NOISE)
    yield _good("gray PNG", "l.png", lambda: encoded(Image.fromarray(GRAY), "PNG"), gray3)
    yield _good("gray and alpha", "la.png", lambda: encoded(Image.fromarray(NOISE[..., :2], "LA"), "PNG"), gray3)
    yield _good("RGBA PNG keeps the colour", "rgba.png", lambda: encoded(Image.fromarray(alpha), "PNG"), NOISE)
    yield _good("RGBA TIFF", "rgba.tif", lambda: encoded(Image.fromarray(alpha), "TIFF"), NOISE)
    yield _good("palette PNG", "p.png", lambda: encoded(palette, "PNG"), coloured, quick=True)
    yield _good("palette, one colour transparent", "pt.png", lambda: encoded(palette, "PNG", transparency=3), coloured)
    yield _good(
        "palette, alpha table", "pa.png", lambda: encoded(palette, "PNG", transparency=bytes(range(16))), coloured
    )
    yield _good("palette GIF", "p.gif", lambda: encoded(palette, "GIF"), coloured)
    yield _good("palette BMP", "p.bmp", lambda: encoded(palette, "BMP"), coloured)
    yield _good("bilevel PNG", "1.png", lambda: encoded(bilevel, "PNG"), black_white)
    yield _good("bilevel TIFF, group 4", "1.tif", lambda: encoded(bilevel, "TIFF", compression="group4"), black_white)
    yield _good("16-bit gray PNG", "16.png", lambda: encoded(Image.fromarray(deep), "PNG"), scaled, quick=True)
    yield _good("16-bit gray TIFF", "16.tif", lambda: encoded(Image.fromarray(deep), "TIFF"), scaled)
    big_endian = Image.frombytes("I;16B", GRAY.shape[::-1], deep.astype(">u2").tobytes())
    yield _good("16-bit gray TIFF, big-endian", "16b.tif", lambda: encoded(big_endian, "TIFF"), scaled)
    rows = b"".join(b"\0" + row.tobytes() for row in np.stack([deep] * 3, axis=2).astype(">u2"))
    rgb16 = png(GRAY.shape[1], GRAY.shape[0], 16, 2, zlib.compress(rows))
    yield _good("16-bit RGB PNG", "rgb16.png", lambda: rgb16, scaled, off=1)
    cmyk = Image.fromarray(NOISE).convert("CMYK")
    yield _good("CMYK TIFF", "cmyk.tif", lambda: encoded(cmyk, "TIFF"), np.array(cmyk.convert("RGB")))
    jpeg = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    yield _good("CMYK JPEG", "cmyk.jpg", lambda: jpeg, SMOOTH, off=12)
    smooth_gray = encoded(Image.fromarray(SMOOTH[..., 0]), "JPEG", quality=95)
    yield _good("gray JPEG", "l.jpg", lambda: smooth_gray, SMOOTH, off=4, quick=True)
    for options in ({"progressive": True}, {"subsampling": 2}, {"optimize": True}, {"comment": b"x" * 60000}):
        data = encoded(Image.fromarray(SMOOTH), "JPEG", quality=95, **options)
        yield _good(f"JPEG with {next(iter(options))}", "a.jpg", lambda data=data: data, SMOOTH, off=6)
    blank = np.full((32, 32, 3), 128, dtype=np.uint8)
    yield _good("a JPEG that is really gray", "gray.jpg", lambda: encoded(Image.fromarray(blank), "JPEG"), blank, off=1)
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        frames = [Image.fromarray(p).quantize(4) if kind == "GIF" else Image.fromarray(p) for p in (blank, 255 - blank)]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        yield _good(f"the first frame of a {kind}", f"two.{kind.lower()}", lambda data=data: data, blank, off=4)
    floating = Image.fromarray(GRAY.astype(np.float32))
    yield _bad("floating-point TIFF", "f.tif", lambda: encoded(floating, "TIFF"), "floating-point", quick=True)
    yield _bad("32-bit TIFF", "i.tif", lambda: encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"), "32-bit")
    lab = Image.frombytes("LAB", GRAY.shape[::-1], NOISE.tobytes())
    to_rgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    coloured = np.array(ImageCms.applyTransform(lab, to_rgb))
    yield _good("LAB TIFF", "lab.tif", lambda: encoded(lab, "TIFF"), coloured, off=1)


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
            yield _good(name, f"o{number}.bin", lambda data=data: data, wanted, off=off, quick=number == 6)
    wild = encoded(Image.fromarray(SMOOTH), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x80" * 40)
    yield _good("EXIF data that are noise", "noise.jpg", lambda: wild, SMOOTH, off=4)


def _sizes() -> Iterator[Case]:
    for height, width in ((1, 1), (1, 4000), (4000, 1), (2, 3)):
        pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
        data = encoded(Image.fromarray(pixels), "PNG")
        yield _good(f"{width}x{height}", "small.png", lambda data=data: data, pixels)
    for bits, colour, what, row_bytes in ((8, 2, "RGB", 30000), (16, 0, "16-bit gray", 20000), (8, 6, "RGBA", 40000)):
        make = _file("large.png", lambda b=bits, c=colour, n=row_bytes: png(10000, 10000, b, c, zeros(10000, n)))
        yield Case(
            kind="image", name=f"100 million black pixels, {what}", make=make, use=load_image, loads=_is_large_black
        )
    for width, height in ((200_000, 200_000), (2**31 - 1, 2**31 - 1), (10001, 10000)):
        data = png(width, height, 8, 2, zlib.compress(b"\0" * 100))
        yield _bad(f"a PNG header that says {width}x{height}", "bomb.png", lambda data=data: data, quick=True)
    yield _bad(
        "a GIF header that says 65535x65535", "bomb.gif", lambda: b"GIF89a\xff\xff\xff\xff\xf0\0\0" + b"\0" * 6 + b";"
    )
    bmp = (
        b"BM"
        + struct.pack("<IHHI", 58, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    yield _bad("a BMP header that says 60000x60000", "bomb.bmp", lambda: bmp + b"\0\0\0\0")
    yield _bad("a PNG of no width", "none.png", lambda: png(0, 5, 8, 2, zlib.compress(b"")))


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
        yield _bad(name, "x.jpg", lambda content=content: content, quick=name in ("empty", "text", "PostScript"))


def _damaged() -> Iterator[Case]:
    rows = b"".join(b"\0" + row.tobytes() for row in NOISE)
    plain = zlib.compress(rows, 0)  # stored as it is: a changed byte is a changed pixel
    height, width = GRAY.shape
    wrong = bytearray(plain)
    wrong[200] ^= 255
    checksum = zlib.crc32(b"IDAT" + plain)
    flipped = png(width, height, 8, 2, bytes(wrong), checksum=checksum)
    yield _bad("a flipped byte in a PNG's pixels", "flip.png", lambda: flipped, "checksum", quick=True)
    yield _bad(
        "a wrong checksum of a PNG's pixels", "sum.png", lambda: png(width, height, 8, 2, plain, checksum=1), "checksum"
    )
    black = np.zeros((9, 9), dtype=np.uint8)
    yield _good(
        "a PNG that ends black", "black.png", lambda: encoded(Image.fromarray(black), "PNG"), np.zeros((9, 9, 3))
    )
    passes = png(width, height, 8, 2, zlib.compress(rows))[:28] + b"\1"  # interlaced
    half_way = passes + b"\0" * 4 + png(width, height, 8, 2, zlib.compress(bytes(len(rows) // 2)))[33:]
    yield _bad("half of an interlaced PNG", "interlaced.png", lambda: half_way)
    short = zlib.compress(rows[: len(rows) // 2])
    yield _bad("a PNG with half of its rows", "half.png", lambda: png(width, height, 8, 2, short))
    yield _bad(
        "a PNG without pixels",
        "no.png",
        lambda: (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")
        ),
    )
    yield _bad("a PNG with an unknown kind of colour", "kind.png", lambda: png(width, height, 8, 5, plain))
    yield _bad("a PNG without palette", "nopal.png", lambda: png(width, height, 8, 3, zlib.compress(b"\0" * 5000)))
    jpeg = encoded(Image.fromarray(SMOOTH), "JPEG", quality=90)
    for share in (0.4, 0.6, 0.8):
        ended = jpeg[: int(len(jpeg) * share)] + b"\xff\xd9"
        yield _bad(
            f"{share:.0%} of a JPEG, and an end marker", "ended.jpg", lambda ended=ended: ended, quick=share == 0.6
        )
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    restart = encoded(noise, "JPEG", restart_marker_rows=1)
    yield _bad(
        "a JPEG with restart markers, cut and ended", "rst.jpg", lambda: restart[: len(restart) // 2] + b"\xff\xd9"
    )
    no_tables = jpeg.replace(b"\xff\xdb", b"\xff\xe5")
    yield _bad("a JPEG without its tables", "tables.jpg", lambda: no_tables)
    gif = encoded(Image.fromarray(GRAY), "GIF")
    yield _bad("half of a GIF, and an end marker", "half.gif", lambda: gif[: len(gif) // 2] + b"\0;")


def _cut() -> Iterator[Case]:
    """A cut file is refused, or what is missing was not the picture: then every pixel must be right."""
    noise = np.random.default_rng(9).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    files = {
        "JPEG": encoded(image, "JPEG", quality=90),
        "progressive JPEG": encoded(image, "JPEG", quality=90, progressive=True),
        "PNG": encoded(image, "PNG"),
        "WEBP": encoded(image, "WEBP", quality=90),
        "lossless WEBP": encoded(image, "WEBP", lossless=True),
        "BMP": encoded(image, "BMP"),
        "TIFF": encoded(image, "TIFF"),
        "packed TIFF": encoded(image, "TIFF", compression="tiff_lzw"),
        "GIF": encoded(image.convert("P"), "GIF"),
    }
    for kind, data in files.items():
        whole = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        for share in (0.03, 0.3, 0.6, 0.9, 0.99):
            cut = data[: int(len(data) * share)]
            yield Case(
                kind="image",
                name=f"{share:.0%} of a {kind}",
                make=_file("cut.bin", lambda cut=cut: cut),
                use=load_image,
                loads=lambda found, whole=whole: np.array_equal(found, whole),
                error=("cut.bin",),
                quick=share == 0.6,
            )


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
