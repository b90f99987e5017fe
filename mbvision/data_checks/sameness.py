"""Pictures that are there twice: inside a split, and in training and validation."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePath

import numpy as np
import torch

from mbvision.data.base import Reader
from mbvision.data_checks.findings import Finding
from mbvision.data_checks.picture_checks import Looks
from mbvision.data_checks.same_pictures import how_alike, likely_pairs
from mbvision.errors import DataError
from mbvision.structures import Sample, Target

LEAST_COMPARED = 1000
"""So many pairs are compared in a small set too."""

Picture = tuple[str, int]
"""A split, and the place of a picture in it."""


def check_sameness(readers: Mapping[str, Reader], looks: Mapping[str, Looks]) -> list[Finding]:
    """A finding for each picture that is the same as an earlier one, which its detail names; training comes first.

    Pictures with like fingerprints are read again and compared, the likest first, and no more than twice as many as
    there are: where all pictures look alike, the least alike pairs stay uncompared. Blank pictures are left out.
    """
    pictures = [(split, int(index)) for split, look in looks.items() for index in look.printed]
    prints = np.concatenate([look.fingerprints for look in looks.values()])

    @lru_cache(maxsize=8)
    def read(number: int) -> Sample | None:
        split, index = pictures[number]
        try:
            return readers[split].read(index)
        except DataError:  # it could be read a moment ago
            return None

    first_of = list(range(len(pictures)))  # the earliest picture that each is the same as
    left = max(LEAST_COMPARED, len(pictures))
    for a, b in likely_pairs(prints).tolist():
        root, other = _first(first_of, a), _first(first_of, b)
        if root == other:
            continue
        left -= 1
        if left < 0:
            break
        one, two = read(a), read(b)
        if one is not None and two is not None and how_alike(one.image, two.image):
            first_of[max(root, other)] = min(root, other)
    found = []
    for number, (split, index) in enumerate(pictures):
        root = _first(first_of, number)
        one, two = (read(root), read(number)) if root != number else (None, None)
        if one is not None and two is not None:
            cause, detail = _compare(pictures[root], split, one, two, looks)
            found.append(
                Finding(cause=cause, split=split, file=looks[split].files[index], detail=detail, picture=index)
            )
    return found


def _first(first_of: list[int], number: int) -> int:
    while first_of[number] != number:
        number = first_of[number]
    return number


def _compare(first: Picture, split: str, one: Sample, two: Sample, looks: Mapping[str, Looks]) -> tuple[str, str]:
    """The cause and the detail for a picture ``two`` of ``split`` that is the same as an earlier one."""
    across, differ = first[0] != split, not _same_labels(one, two)
    cause = "same_picture_across" if across else "same_picture_other_labels" if differ else "same_picture"
    how = how_alike(one.image, two.image) or "by way of others nearly identical"
    other = "/".join(PurePath(looks[first[0]].files[first[1]]).parts[-2:])
    return cause, f"{how} to {other} of {first[0]}" + (", labelled differently" if differ else "")


def _same_labels(one: Sample, two: Sample) -> bool:
    """Whether two pictures say the same about all that both are labelled with; boxes in any order.

    Boxes and masks of pictures of different sizes are not compared.
    """
    a, b = one.target, two.target
    if a.label != b.label or a.identity != b.identity:
        return False
    if one.image.shape != two.image.shape:
        return True
    if a.boxes is not None and b.boxes is not None and _rows(a) != _rows(b):
        return False
    if a.mask is not None and b.mask is not None and not torch.equal(a.mask, b.mask):
        return False
    return a.attributes is None or b.attributes is None or torch.equal(a.attributes, b.attributes)


def _rows(target: Target) -> list[tuple[float, ...]]:
    assert target.boxes is not None and target.box_labels is not None
    return sorted((*box, label) for box, label in zip(target.boxes.tolist(), target.box_labels.tolist(), strict=True))
