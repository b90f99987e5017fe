"""Pictures that are the same, found by small fingerprints; the pixels have the last word.

A fingerprint is the picture in 8x8 cells of mean colour. Saving a picture anew, or at another size, changes it by a few
levels.
"""

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

CELLS = 8
_SAMPLED = 128
"""Rows and columns that are looked at: reading all of them would take a good part of the time of decoding."""

MEAN_APART = 2.5
"""Fingerprints whose values (0..255) differ by more than that on average are of different pictures ..."""

MOST_APART = 12
"""... and so are those of which any differs by more than that."""

PIXELS_APART = 4.0
"""The same for pixels, of both pictures at 128x128: JPEG of quality 50 and up stays below."""

MOST_CANDIDATES = 20
"""So many for each picture, on average, are compared; a camera that never moves gives more."""

_CHUNK = 200_000  # pairs, or pictures, at a time: what bounds the memory


def fingerprint(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "192"]:
    """The mean colours of the cells, from some of their pixels."""
    sampled = cv2.resize(image, (_SAMPLED, _SAMPLED), interpolation=cv2.INTER_NEAREST)
    cells = cv2.resize(sampled, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, dtype=np.uint8).reshape(-1)


def is_blank(image: UInt8[np.ndarray, "H W 3"], prints: UInt8[np.ndarray, "192"]) -> bool:
    """Whether a picture has a single colour."""
    colours = prints.reshape(-1, 3)
    return bool((colours == colours[0]).all()) and bool((image == image[0, 0]).all())


def likely_pairs(prints: UInt8[np.ndarray, "N 192"]) -> Int[np.ndarray, "P 2"]:
    """Rows of fingerprints that may be of one picture, nearest first; more than enough are cut off.

    Where two fingerprints differ by at most `MEAN_APART` on average, so do their sums over any half of the cells less
    the other half, and then their places in a grid of three such sums are the same or next to each other.
    """
    sums = _signed_sums(prints)
    limit = int(MEAN_APART * prints.shape[1])
    cells = sums[:, :3] // limit
    cells = cells - cells.min(axis=0, initial=0) + 1  # nothing is at the edge, so a neighbour never wraps around
    _, rows_of, layers_of = (int(n) + 2 for n in cells.max(axis=0, initial=0))
    keys = (cells[:, 0] * rows_of + cells[:, 1]) * layers_of + cells[:, 2]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    found: list[np.ndarray] = []
    apart: list[np.ndarray] = []
    most = MOST_CANDIDATES * len(order)
    for offset in itertools.product((-1, 0, 1), repeat=3):
        if offset < (0, 0, 0):
            continue  # of two neighbours the first one looks at the second
        shifted = keys + (offset[0] * rows_of + offset[1]) * layers_of + offset[2]
        last = np.searchsorted(keys, shifted, side="right")
        first = np.searchsorted(keys, shifted) if any(offset) else np.arange(1, len(keys) + 1)
        for a, b in _ranges(first, last):
            one, two = order[a], order[b]
            near = (np.abs(sums[one] - sums[two]) <= limit).all(axis=1)
            pairs, means = _close(prints, one[near], two[near])
            found.append(pairs)
            apart.append(means)
            most -= len(pairs)
            if most < 0:
                break
    if not found:
        return np.zeros((0, 2), dtype=np.int64)
    pairs = np.concatenate(found)
    nearest = np.lexsort((pairs[:, 1], pairs[:, 0], np.concatenate(apart)))
    chosen: Int[np.ndarray, "P 2"] = pairs[nearest]
    return chosen


def _signed_sums(prints: UInt8[np.ndarray, "N 192"]) -> Int[np.ndarray, "N 8"]:
    """The sums of all values with 8 patterns of signs: all, top less bottom, left less right, and finer ones."""
    half = np.repeat([1, -1], CELLS // 2)
    quarter = np.tile(np.repeat([1, -1], CELLS // 4), 2)
    lines = (np.ones(CELLS), half, quarter)
    signs = [np.outer(rows, columns) for rows in lines for columns in lines][:8]
    order = (0, 3, 1, 4, 6, 2, 5, 7)  # the coarsest first: they tell most pictures apart
    table = np.stack([np.repeat(signs[k].ravel(), 3) for k in order], axis=1).astype(np.float32)
    parts = [prints[start : start + _CHUNK].astype(np.float32) @ table for start in range(0, len(prints), _CHUNK)]
    sums: Int[np.ndarray, "N 8"] = np.concatenate([np.zeros((0, 8), np.float32), *parts]).astype(np.int64)
    return sums


def _ranges(
    first: Int[np.ndarray, " N"], last: Int[np.ndarray, " N"]
) -> Iterator[tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]]:
    """Each row with every number from its first to before its last, about `_CHUNK` pairs at a time."""
    counts = (last - first).clip(0)
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _CHUNK, side="right")), start + 1)
        own = counts[start:stop]
        a = np.repeat(np.arange(start, stop), own)
        b = np.arange(int(own.sum())) - np.repeat(np.cumsum(own) - own, own) + first[a]
        yield a, b
        start = stop


def _close(
    prints: UInt8[np.ndarray, "N 192"], one: Int[np.ndarray, " M"], two: Int[np.ndarray, " M"]
) -> tuple[Int[np.ndarray, "P 2"], Float[np.ndarray, " P"]]:
    """The pairs whose fingerprints are close in all cells, and how far apart they are on average."""
    difference = np.abs(prints[one].astype(np.int16) - prints[two])
    mean = difference.mean(axis=1)
    alike = (mean <= MEAN_APART) & (difference.max(axis=1, initial=0) <= MOST_APART)
    return np.sort(np.stack([one[alike], two[alike]], axis=1), axis=1), mean[alike]


def how_alike(a: UInt8[np.ndarray, "H W 3"], b: UInt8[np.ndarray, "H2 W2 3"]) -> str | None:
    """``identical`` to the last bit, ``nearly identical`` (saved anew, or resized), or None for different pictures."""
    if a.shape == b.shape and np.array_equal(a, b):
        return "identical"
    small = [cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA).astype(np.int16) for image in (a, b)]
    return "nearly identical" if float(np.abs(small[0] - small[1]).mean()) <= PIXELS_APART else None
