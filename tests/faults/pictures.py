"""Pictures to make cases of: their pixels, and files of them that say other things than they hold."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mbvision.data.images import load_image
from tests.faults.case import Case

NOISE = np.random.default_rng(5).integers(0, 256, (24, 33, 3), dtype=np.uint8)
GRAY = NOISE[:, :, 0]
SMOOTH = np.stack(np.meshgrid(np.arange(96), np.arange(64)), axis=2).sum(axis=2, dtype=np.uint8)[..., None].repeat(3, 2)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes, *, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(
    width: int, height: int, bits: int, colour: int, rows: bytes, *, checksum: int | None = None, interlace: int = 0
) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    body = chunk(b"IDAT", rows, checksum=checksum)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def zeros(rows: int, row_bytes: int) -> bytes:
    """The packed rows of a black picture, made without holding it."""
    packer = zlib.compressobj(1)
    row = bytes(row_bytes + 1)
    return b"".join([*(packer.compress(row) for _ in range(rows)), packer.flush()])


def good(name: str, file: str, content: Callable[[], bytes], pixels: np.ndarray, *, off: int = 0, quick: bool = False):
    def equal(found: Any) -> bool:
        same = found.dtype == np.uint8 and found.shape == pixels.shape
        return bool(same and np.abs(found.astype(int) - pixels).max() <= off)

    return Case(kind="image", name=name, make=file_of(file, content), use=load_image, loads=equal, quick=quick)


def bad(name: str, file: str, content: Callable[[], bytes], *words: str, quick: bool = False) -> Case:
    return Case(kind="image", name=name, make=file_of(file, content), use=load_image, error=(file, *words), quick=quick)


def file_of(file: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / file).write_bytes(content())
        return folder / file

    return make
