"""Pictures that are the same, found by small fingerprints; the pixels have the last word.

A fingerprint is the picture in 8x8 cells of mean colour. Saving a picture anew, or at another size, changes it by a few
levels.
"""

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

CELLS = 8
_SAMPLED = 128
"""Rows or columns of the shorter side that are looked at: reading all of them would take as long as decoding."""

MEAN_APART = 2.5
"""Fingerprints whose values (0..255) differ by more than that on average are of different pictures ..."""

MOST_APART = 12
"""... and so are those of which any differs by more than that."""

PIXELS_APART = 4.0
"""The same for pixels, of both pictures at 128x128: JPEG of quality 50 and up stays below."""

MOST_CANDIDATES = 20
"""So many for each picture, on average, are compared; a camera that never moves gives more."""


def fingerprint(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "192"]:
    """The mean colours of the cells, from every so many rows and columns."""
    step = max(1, min(image.shape[:2]) // _SAMPLED)
    cells = cv2.resize(image[::step, ::step], (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, dtype=np.uint8).reshape(-1)


def is_blank(image: UInt8[np.ndarray, "H W 3"], prints: UInt8[np.ndarray, "192"]) -> bool:
    """Whether a picture has a single colour."""
    colours = prints.reshape(-1, 3)
    return bool((colours == colours[0]).all()) and bool((image == image[0, 0]).all())


def likely_pairs(prints: UInt8[np.ndarray, "N 192"]) -> Int[np.ndarray, "P 2"]:
    """Rows of fingerprints that may be of one picture, nearest first.

    They are sorted by their mean, and each is compared with those after it until the means are too far apart.
    """
    order = np.argsort(prints.mean(axis=1), kind="stable")
    values = prints[order].astype(np.int16)
    # the mean, and those of the quarters: five numbers tell nearly all pairs apart
    rough = np.concatenate([values.mean(axis=1)[:, None], _quarters(values)], axis=1).astype(np.float32)
    active = np.arange(len(order))
    found: list[np.ndarray] = []
    apart: list[np.ndarray] = []
    count = 0
    for step in range(1, len(order)):
        active = active[active + step < len(order)]
        active = active[rough[active + step, 0] - rough[active, 0] <= MEAN_APART]
        if not len(active) or count > MOST_CANDIDATES * len(order):
            break
        near = active[(np.abs(rough[active + step, 1:] - rough[active, 1:]) <= 2 * MEAN_APART).all(axis=1)]
        difference = np.abs(values[near + step] - values[near])
        mean = difference.mean(axis=1)
        alike = (mean <= MEAN_APART) & (difference.max(axis=1) <= MOST_APART)
        found.append(np.stack([near[alike], near[alike] + step], axis=1))
        apart.append(mean[alike])
        count += int(alike.sum())
    if not found:
        return np.zeros((0, 2), dtype=np.int64)
    pairs = np.sort(order[np.concatenate(found)], axis=1)
    nearest = np.lexsort((pairs[:, 1], pairs[:, 0], np.concatenate(apart)))
    chosen: Int[np.ndarray, "P 2"] = pairs[nearest]
    return chosen


def _quarters(values: Int[np.ndarray, "N 192"]) -> Float[np.ndarray, "N 4"]:
    half = CELLS // 2
    cells = values.reshape(len(values), 2, half, 2, half, 3)
    means: Float[np.ndarray, "N 4"] = cells.mean(axis=(2, 4, 5)).reshape(len(values), 4)
    return means


def how_alike(a: UInt8[np.ndarray, "H W 3"], b: UInt8[np.ndarray, "H2 W2 3"]) -> str | None:
    """``identical`` to the last bit, ``nearly identical`` (saved anew, or resized), or None for different pictures."""
    if a.shape == b.shape and np.array_equal(a, b):
        return "identical"
    small = [cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA).astype(np.int16) for image in (a, b)]
    return "nearly identical" if float(np.abs(small[0] - small[1]).mean()) <= PIXELS_APART else None
