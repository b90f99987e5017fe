"""What the pixels of all masks say: train ids in files of label ids, masks in black and white, pixels by class."""

import numpy as np
from jaxtyping import Int

from mbvision.data_checks.class_checks import ClassCounts
from mbvision.data_checks.findings import Finding
from mbvision.structures import IGNORE, MaskAnnotations, MaskScheme

USUAL = 0.9
"""A mask stands out by what so many of the others have."""


def mask_classes(annotations: MaskAnnotations, pixels: Int[np.ndarray, "I 256"]) -> ClassCounts:
    """The pixels of each class in all masks."""
    names = annotations.scheme.class_names
    return ClassCounts(names=names, counts=pixels.sum(axis=0)[: len(names)], unit="pixels")


def check_masks(
    annotations: MaskAnnotations, pixels: Int[np.ndarray, "I 256"], files: tuple[str, ...], split: str
) -> list[Finding]:
    """``pixels`` count the labels of each picture, all 0 where there is no mask; ``files`` name the pictures."""
    found = [
        Finding(cause="train_ids", split=split, file=files[index], detail=detail, picture=index)
        for index, detail in _train_ids(annotations.scheme, pixels)
    ]
    return found + _black_and_white(annotations.scheme, pixels, files, split)


def _train_ids(scheme: MaskScheme, pixels: Int[np.ndarray, "I 256"]) -> list[tuple[int, str]]:
    """Masks without any value that is too high for a train id, where classes of such values are many.

    Label ids have gaps (7, 8, 11, ... in Cityscapes), train ids count 0, 1, 2, ... A file of train ids is read without
    an error where it holds no 255, as other classes than it means.
    """
    number = len(scheme.class_names)
    high = np.array([value >= number for value in scheme.stored])
    if not high.any():
        return []
    seen = pixels[:, :number] > 0
    labelled = seen.any(axis=1)
    shows_high = seen[:, high].any(axis=1)
    suspects = np.flatnonzero(labelled & ~shows_high)
    usual = shows_high.sum() >= USUAL * labelled.sum()  # of a few suspects among many masks
    whole = not shows_high.any() and labelled.sum() > 1  # of a split that was converted as a whole
    if not (usual or whole):
        return []
    detail = f"no value above {number - 1} in it"
    return [(index, detail) for index in suspects.tolist() if usual or whole]


def _black_and_white(
    scheme: MaskScheme, pixels: Int[np.ndarray, "I 256"], files: tuple[str, ...], split: str
) -> list[Finding]:
    """Masks of two classes drawn with 0 and 255: what is white is ignored."""
    if len(scheme.class_names) != 2:
        return []
    totals = pixels.sum(axis=0)
    if totals[1] or not totals[0] or not totals[IGNORE]:
        return []
    index = int((pixels[:, IGNORE] > 0).argmax())
    detail = f"the masks hold 0 and 255 alone, and 255 is ignored; if white is {scheme.class_names[1]!r}, store 1 there"
    return [Finding(cause="reader", split=split, file=files[index], detail=detail, picture=index)]
