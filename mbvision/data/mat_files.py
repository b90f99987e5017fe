"""One variable out of a MATLAB 5 file: masks of the Semantic Boundaries Dataset, the classes of ImageNet.

The library that reads all of the format crashes the process on damaged files; this reads only what is asked for, by
MathWorks' "MAT-File Format", chapter 1 (version 5).
"""

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

MAX_BYTES = 64 * 1024**2
"""More than that is not unpacked: a mask of a photo of the set has a quarter of a megabyte."""

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15  # types of elements; the following are those of numbers
_INTEGERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 12: "i8", 13: "u8"}
_NUMBERS = _INTEGERS | {7: "f4", 9: "f8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_STRUCT, _CHAR = 2, 4  # classes of an array
_SMALL_BYTES = 4  # so much data stands within an element's own tag


def struct_field(content: bytes, variable: str, field: str) -> Int[np.ndarray, "H W"]:
    """The matrix of whole numbers ``variable.field``; raises ``ValueError`` with the reason where there is none."""
    names, values, order = _struct(content, variable)
    if field.encode() not in names or len(values) != len(names):
        raise ValueError(f"it holds no {variable}.{field}")
    return _matrix(values[names.index(field.encode())], order)


def struct_rows(content: bytes, variable: str, fields: Sequence[str]) -> list[dict[str, str | float]]:
    """The texts and single numbers in ``fields`` of each element of the array of structures ``variable``.

    Raises ``ValueError`` with the reason where there are none.
    """
    names, values, order = _struct(content, variable)
    if missing := [field for field in fields if field.encode() not in names]:
        raise ValueError(f"it holds no {variable}.{missing[0]}")
    if not values or len(values) % len(names):
        raise ValueError(f"its {variable} is cut short or damaged")
    places = {field: names.index(field.encode()) for field in fields}
    starts = range(0, len(values), len(names))
    return [{field: _scalar(values[start + place], order) for field, place in places.items()} for start in starts]


def _struct(content: bytes, variable: str) -> tuple[list[bytes], list[bytes], str]:
    """The names of a structure's fields, the fields' contents (element after element), and the order of bytes."""
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER_BYTES - 2 : _HEADER_BYTES])
    if order is None:
        raise ValueError("it is no MATLAB 5 file")
    for kind, data in _elements(content[_HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            kind, data = next(_elements(_inflated(data), order), (0, b""))
        if kind != _MATRIX:
            continue
        parts = list(_elements(data, order))
        if len(parts) > 5 and parts[2][1] == variable.encode() and _array_class(parts, order) == _STRUCT:
            length = int.from_bytes(parts[3][1], "little" if order == "<" else "big")
            names = [parts[4][1][i : i + length].rstrip(b"\0") for i in range(0, len(parts[4][1]), max(length, 1))]
            return names, [value for _, value in parts[5:]], order
    raise ValueError(f"it holds no structure {variable}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of the elements that follow one another in ``data``."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
            if size > _SMALL_BYTES:
                raise ValueError("it is damaged")
        else:
            start = place + 8
            end = start + size if kind == _COMPRESSED else start + -(-size // 8) * 8  # others end on 8 bytes
        if start + size > len(data):
            raise ValueError("it is cut short or damaged")
        yield kind, data[start : start + size]
        place = end


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise ValueError("it is damaged") from error
    if not stream.eof:
        raise ValueError(f"it is cut short, or holds more than {MAX_BYTES} bytes")
    return plain


def _array_class(parts: list[tuple[int, bytes]], order: str) -> int:
    if len(parts[0][1]) < 4:
        raise ValueError("it is damaged")
    return int(struct.unpack_from(f"{order}I", parts[0][1])[0] & 0xFF)


def _matrix(data: bytes, order: str) -> Int[np.ndarray, "H W"]:
    parts = list(_elements(data, order))
    if len(parts) < 4 or len(parts[1][1]) != 8 or parts[3][0] not in _INTEGERS:
        raise ValueError("it holds no matrix of whole numbers there")
    height, width = struct.unpack(f"{order}ii", parts[1][1])
    dtype = np.dtype(order + _INTEGERS[parts[3][0]])
    if height < 1 or width < 1 or height * width * dtype.itemsize != len(parts[3][1]):
        raise ValueError(f"its matrix of {width}x{height} is cut short or damaged")
    values = np.frombuffer(parts[3][1], dtype=dtype).reshape((height, width), order="F")
    return np.ascontiguousarray(values, dtype=dtype.newbyteorder("="))


def _scalar(data: bytes, order: str) -> str | float:
    """A line of text, or a number."""
    parts = list(_elements(data, order))
    if len(parts) < 4:
        raise ValueError("it is damaged")
    kind, values = parts[3]
    if _array_class(parts, order) == _CHAR and kind in _TEXTS:
        encoding = _TEXTS[kind] + ({"<": "-le", ">": "-be"}[order] if _TEXTS[kind] == "utf-16" else "")
        return values.decode(encoding)
    dtype = np.dtype(order + _NUMBERS[kind]) if kind in _NUMBERS else None
    if dtype is None or len(values) != dtype.itemsize:
        raise ValueError("it holds neither a text nor a number there")
    return float(np.frombuffer(values, dtype=dtype)[0])
