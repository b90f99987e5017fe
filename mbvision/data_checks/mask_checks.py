"""What the pixels of all masks say: train ids in files of label ids, too few classes, pixels by class."""

import numpy as np
from jaxtyping import Int

from mbvision.data.mask_census import MaskCensus
from mbvision.data_checks.class_checks import ClassCounts
from mbvision.data_checks.findings import Finding
from mbvision.structures import MaskAnnotations, MaskScheme

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
    return found + _too_few_classes(annotations.scheme, pixels, files, split)


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


def _too_few_classes(
    scheme: MaskScheme, pixels: Int[np.ndarray, "I 256"], files: tuple[str, ...], split: str
) -> list[Finding]:
    """Masks from which nothing can be learnt, as training refuses them."""
    with_mask = np.flatnonzero(pixels.any(axis=1)).tolist()
    census = MaskCensus(scheme, len(with_mask))
    for index in with_mask:
        census.add_counts(pixels[index])
    return [
        Finding(cause="masks_of_one_class", split=split, file=files[with_mask[0]], detail=fault, picture=with_mask[0])
        for fault in (census.faults() if with_mask else ())
    ]
