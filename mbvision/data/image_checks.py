"""Damage that Pillow decodes without a word: PNG pixels whose checksum is wrong, and corrupt data in JPEG files."""

import struct
import zlib
from typing import IO, Literal

import numpy as np
import simplejpeg
from jaxtyping import UInt8

_PNG_START = 8
_BLOCK = 1 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG (third edition), 11.2.1: by type of colour
_ADAM7 = (  # 8.2: where each pass starts (x, y), and its steps
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
    (0, 1, 1, 2),
)
_BLANK = 128
"""What libjpeg gives for blocks that it has no data for: zero coefficients are middle gray."""

_BLOCK_SIDE = 8
"""Pixels (ITU-T T.81, A.1.1)."""


def bad_png_chunk(file: IO[bytes]) -> int | None:
    """Where the first chunk of pixels stands whose checksum is not that of its content; None where all are right.

    The place in the file is left as it was. A chunk that is cut is left to the decoder to find.
    """
    place = file.tell()
    try:
        file.seek(_PNG_START)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            start, length = file.tell() - 8, int.from_bytes(head[:4], "big")
            if head[4:] != b"IDAT":
                file.seek(length + 4, 1)
                continue
            checksum = zlib.crc32(head[4:])
            while length and (block := file.read(min(length, _BLOCK))):
                checksum = zlib.crc32(block, checksum)
                length -= len(block)
            stored = file.read(4)
            if len(stored) == 4 and int.from_bytes(stored, "big") != checksum:
                return start
        return None
    finally:
        file.seek(place)


def is_short_png(file: IO[bytes]) -> bool:
    """Whether the packed rows of a PNG end before its picture does: decoders leave the others black.

    The place in the file is left as it was.
    """
    place = file.tell()
    try:
        file.seek(_PNG_START + 8)
        width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
        passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
        sizes = [(-(-(height - y) // down), -(-(width - x) // across)) for x, y, across, down in passes]
        depth = bits * _CHANNELS[colour]
        wanted = sum(rows * (1 + -(-columns * depth // 8)) for rows, columns in sizes if rows > 0 and columns > 0)
        file.seek(_PNG_START)
        return _unpacked_bytes(file, wanted) < wanted
    finally:
        file.seek(place)


def _unpacked_bytes(file: IO[bytes], most: int) -> int:
    """How many bytes the chunks of pixels unpack to, counted up to ``most``; nothing is kept."""
    unpacker, count = zlib.decompressobj(), 0
    while count < most and len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] != b"IDAT":
            file.seek(length + 4, 1)
            continue
        while length and (packed := file.read(min(length, _BLOCK))):
            length -= len(packed)
            while packed and count < most:
                count += len(unpacker.decompress(packed, _BLOCK))
                packed = unpacker.unconsumed_tail
        file.seek(4, 1)
    return count


def decode_jpeg(content: bytes, colours: Literal["RGB", "CMYK"] = "RGB") -> UInt8[np.ndarray, "H W C"]:
    """The pixels of a JPEG, bit for bit those of Pillow, which has the same decoder: gray and YCbCr become RGB.

    Raises ValueError with libjpeg's own words where that decoder corrects damaged data and continues.
    """
    pixels: UInt8[np.ndarray, "H W C"] = simplejpeg.decode_jpeg(content, colours)
    return pixels


def has_blank_block(pixels: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Whether a block of a damaged JPEG is the gray of missing data, also one that the border cuts."""
    blank = (pixels == _BLANK).all(axis=2)
    height, width = (-side % _BLOCK_SIDE for side in blank.shape)
    blank = np.pad(blank, ((0, height), (0, width)), constant_values=True)
    rows, columns = (side // _BLOCK_SIDE for side in blank.shape)
    return bool(blank.reshape(rows, _BLOCK_SIDE, columns, _BLOCK_SIDE).all(axis=(1, 3)).any())
