"""Boxes that were taken from one format to another without its way of counting pixels.

VOC counts from 1 and its ``xmax`` is the last pixel inside; COCO counts from 0 and has widths. So a box over a whole
picture of width W is ``xmin=1 xmax=W`` in VOC, ``x=0 w=W`` in COCO. Where boxes touch the borders, which many do, the
wrong ways to convert show: ``x=1``, an end at ``W - 1`` or at ``W + 1``.
"""

import numpy as np
from jaxtyping import Float, Int

from mbvision.data_checks.box_checks import BoxTable
from mbvision.data_checks.findings import Finding

ENOUGH = 5
"""So many boxes at the wrong place are no accident ..."""

FEW = 0.05
"""... where at most this share of them is at the right one."""


def check_off_by_one(table: BoxTable) -> list[Finding]:
    """What the borders of the pictures say about the conversion of all boxes; decimals are of no VOC origin."""
    xywh = table.annotations.xywh
    rows = np.flatnonzero((xywh[:, 0] % 1 == 0) & (xywh[:, 2] % 1 == 0))
    rows = rows[(xywh[rows] % 1 == 0).all(axis=1) & (xywh[rows, 2:] > 0).all(axis=1)]
    starts, gaps = table.corners[rows, :2], table.limits[rows] - table.corners[rows, 2:]
    found: list[Finding] = []
    if table.annotations.object_numbers is not None:  # a file for each picture, as VOC has them
        found += table.findings("starts_at_minus_1", rows[(starts == -1).any(axis=1)])
    found += table.findings("ends_1_outside", rows[gaps.min(axis=1, initial=0) == -1])
    found += _all(table, "starts_at_1", rows, starts, "at x or y = {}")
    found += _all(table, "ends_short", rows, gaps, "{} pixels before the right or lower border")
    return found


def _all(
    table: BoxTable, cause: str, rows: Int[np.ndarray, " M"], values: Float[np.ndarray, "M 2"], place: str
) -> list[Finding]:
    """One finding about the split where nearly all boxes near a border are 1 pixel off it: ``values`` 1, not 0."""
    off = (values == 1).any(axis=1)
    bad, good = int(off.sum()), int((values == 0).any(axis=1).sum())
    if bad < ENOUGH or good > FEW * bad:
        return []
    detail = f"{bad} of {len(rows)} boxes are {place.format(1)}, {good} {place.format(0)}"
    return [table.finding(cause, int(rows[off.argmax()]), detail=detail)]
