"""Boxes that were taken from one format to another without its way of counting pixels.

VOC counts from 1 and its ``xmax`` is the last pixel inside; COCO counts from 0 and has widths. So a box over a whole
picture of width W is ``xmin=1 xmax=W`` in VOC, ``x=0 w=W`` in COCO. Where boxes touch the borders, which many do, the
wrong ways to convert show: ``x=1``, an end at ``W - 1`` or at ``W + 1``.
"""

import numpy as np
from jaxtyping import Bool, Float

from mbvision.data_checks.box_checks import BoxTable
from mbvision.data_checks.findings import Finding

ENOUGH = 5
"""So many boxes at the wrong place are no accident ..."""

FEW = 0.05
"""... where at most this share of them is at the right one."""


def check_off_by_one(table: BoxTable) -> list[Finding]:
    """What the borders of the pictures say about the conversion of all boxes; decimals are of no VOC origin."""
    annotations = table.annotations
    whole = (annotations.xywh == np.floor(annotations.xywh)).all(axis=1) & (annotations.xywh[:, 2:] > 0).all(axis=1)
    starts, ends = table.corners[:, :2], table.corners[:, 2:]
    numbered = annotations.object_numbers is not None  # of a file for each picture, as VOC has them
    found: list[Finding] = []
    if numbered:
        found += table.findings("starts_at_minus_1", whole & (starts == -1).any(axis=1))
    gaps = table.limits - ends
    found += table.findings("ends_1_outside", whole & (gaps.min(axis=1) == -1))
    found += _all(table, "starts_at_1", whole, starts, right=0, wrong=1, place="at x or y = {}")
    found += _all(
        table, "ends_short", whole, gaps, right=0, wrong=1, place="{} pixels before the right or lower border"
    )
    return found


def _all(
    table: BoxTable,
    cause: str,
    whole: Bool[np.ndarray, " N"],
    values: Float[np.ndarray, "N 2"],
    *,
    right: int,
    wrong: int,
    place: str,
) -> list[Finding]:
    """One finding about the split where nearly all boxes that touch a border miss it in the same way."""
    at_wrong = whole & (values == wrong).any(axis=1)
    good, bad = int((whole[:, None] & (values == right)).any(axis=1).sum()), int(at_wrong.sum())
    if bad < ENOUGH or good > FEW * bad:
        return []
    row = int(np.flatnonzero(at_wrong)[0])
    detail = f"{bad} of {len(whole)} boxes are {place.format(wrong)}, {good} {place.format(right)}"
    return [table.finding(cause, row, detail=detail)]
