"""Damaged pictures: cut, changed and unfinished files are refused, or every pixel of them is right."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mbvision.data.images import load_image
from mbvision.errors import ImageError
from tests.faults.case import Case
from tests.faults.pictures import GRAY, NOISE, SMOOTH, bad, chunk, encoded, file_of, good, png


def damaged_image_cases() -> Iterator[Case]:
    yield from _damaged()
    yield from _cut()
    yield from _flipped()


def _damaged() -> Iterator[Case]:
    rows = b"".join(b"\0" + row.tobytes() for row in NOISE)
    plain = zlib.compress(rows, 0)  # stored as it is: a changed byte is a changed pixel
    height, width = GRAY.shape
    wrong = bytearray(plain)
    wrong[200] ^= 255
    checksum = zlib.crc32(b"IDAT" + plain)
    flipped = png(width, height, 8, 2, bytes(wrong), checksum=checksum)
    yield bad("a flipped byte in a PNG's pixels", "flip.png", lambda: flipped, "checksum", quick=True)
    yield bad(
        "a wrong checksum of a PNG's pixels", "sum.png", lambda: png(width, height, 8, 2, plain, checksum=1), "checksum"
    )
    black = np.zeros((9, 9), dtype=np.uint8)
    yield good(
        "a PNG that ends black", "black.png", lambda: encoded(Image.fromarray(black), "PNG"), np.zeros((9, 9, 3))
    )
    interlaced = png(width, height, 8, 2, zlib.compress(bytes(len(rows) // 2)), interlace=1)
    yield bad("half of an interlaced PNG", "interlaced.png", lambda: interlaced)
    short = zlib.compress(rows[: len(rows) // 2])
    yield bad("a PNG with half of its rows", "half.png", lambda: png(width, height, 8, 2, short))
    yield bad(
        "a PNG without pixels",
        "no.png",
        lambda: (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")
        ),
    )
    yield bad("a PNG with an unknown kind of colour", "kind.png", lambda: png(width, height, 8, 5, plain))
    yield bad("a PNG without palette", "nopal.png", lambda: png(width, height, 8, 3, zlib.compress(b"\0" * 5000)))
    jpeg = encoded(Image.fromarray(SMOOTH), "JPEG", quality=90)
    for share in (0.4, 0.6, 0.8):
        ended = jpeg[: int(len(jpeg) * share)] + b"\xff\xd9"
        yield bad(
            f"{share:.0%} of a JPEG, and an end marker", "ended.jpg", lambda ended=ended: ended, quick=share == 0.6
        )
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    restart = encoded(noise, "JPEG", restart_marker_rows=1)
    yield bad(
        "a JPEG with restart markers, cut and ended", "rst.jpg", lambda: restart[: len(restart) // 2] + b"\xff\xd9"
    )
    no_tables = jpeg.replace(b"\xff\xdb", b"\xff\xe5")
    yield bad("a JPEG without its tables", "tables.jpg", lambda: no_tables)
    gif = encoded(Image.fromarray(GRAY), "GIF")
    yield bad("half of a GIF, and an end marker", "half.gif", lambda: gif[: len(gif) // 2] + b"\0;")


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
                make=file_of("cut.bin", lambda cut=cut: cut),
                use=load_image,
                loads=lambda found, whole=whole: np.array_equal(found, whole),
                error=("cut.bin",),
                quick=share == 0.6,
            )


def _flipped() -> Iterator[Case]:
    """Random bytes changed, many times over: a picture comes, or an error that names the file."""
    image = Image.fromarray(np.random.default_rng(9).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        data = encoded(image.quantize(64) if kind == "GIF" else image, kind)

        def use(path: Path, data: bytes = data) -> set[str]:
            random = np.random.default_rng(10)
            seen = set()
            for number in range(60):
                changed = bytearray(data)
                for place in random.integers(0, len(data) if number % 2 else min(200, len(data)), 3):
                    changed[place] = random.integers(256)
                file = path.parent.parent / "out" / "changed.bin"
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(changed)
                try:
                    seen.add("loads" if load_image(file).shape[2] == 3 else "wrong")
                except ImageError as error:
                    seen.add("named" if "changed.bin" in str(error) else "opaque")
            return seen

        yield Case(
            kind="image",
            name=f"random bytes changed in a {kind}, 60 times",
            make=file_of("whole.bin", lambda data=data: data),
            use=use,
            loads=lambda seen: seen <= {"loads", "named"},
        )
