"""What is wrong with the boxes of a data set, from its annotations alone; all boxes at once, a million take seconds."""

import numpy as np
from jaxtyping import Bool, Float, Int

from mbvision.data.boxes import placement
from mbvision.data_checks.findings import Box, Finding
from mbvision.data_checks.overlaps import similar_pairs
from mbvision.structures import BoxAnnotations

NEARLY_THE_SAME = 0.8
"""The IoU from which two boxes of one class are taken for one object: twice drawn ones have 0.83 to 0.93 in BCCD, and
real neighbours of one class up to 0.78 in a hundred pictures of COCO."""

THE_SAME = 0.95
"""The IoU from which two boxes of different classes are taken for one object."""

MOST_PAIRS = 1_000_000
"""So many pairs are enough: a set with more was made twice as a whole."""

_DETAIL = {
    "box_empty": "{w:g}x{h:g} pixels",
    "box_outside": "{x:g} {y:g} {w:g} {h:g} in {width}x{height}",
    "box_overhang": "{x:g} {y:g} {w:g} {h:g} in {width}x{height}",
    "one_pixel_box": "{w:g}x{h:g} pixels",
    "ends_1_outside": "ends at {right:g}, {bottom:g} in {width}x{height}",
    "starts_at_minus_1": "starts at {left:g}, {top:g}",
}


_REASONS = {
    "have no finite": "no_box",
    "are of a picture": "unknown_picture",
    "are of a category": "unknown_category",
    "share their annotation id": "shared_id",
    "have min and max exchanged": "corners_exchanged",
    "have no area": "",
    "lie wholly outside": "",
    "reach more than 1 pixel": "",
}
"""How the readers' reasons begin, and the cause of each; none where it is checked here."""


class BoxTable:
    """The boxes of a split as the checks read them: corners, each box's picture, and its names.

    ``source`` names the place of the split.
    """

    def __init__(self, annotations: BoxAnnotations, split: str, source: str = "") -> None:
        self.annotations, self.split, self.source = annotations, split, source
        self.pictures = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
        xywh = annotations.xywh
        self.corners: Float[np.ndarray, "N 4"] = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        self.limits: Float[np.ndarray, "N 2"] = annotations.sizes[self.pictures][:, ::-1].astype(np.float64)

    def object_name(self, row: int) -> str:
        """How a user finds the box in its file."""
        numbers = self.annotations.object_numbers
        return f"annotation {self.annotations.annotation_ids[row]}" if numbers is None else f"object[{numbers[row]}]"

    def finding(self, cause: str, row: int, *, detail: str = "", other: int | None = None) -> Finding:
        """A finding about a box, or about two of one picture."""
        picture = int(self.pictures[row])
        boxes = self.corners[[row] if other is None else [row, other]].tolist()
        return Finding(
            cause=cause,
            split=self.split,
            file=self.annotations.file_names[picture],
            object=self.object_name(row) if other is None else f"{self.object_name(row)} and {self.object_name(other)}",
            detail=detail,
            picture=picture,
            boxes=tuple(_box(box) for box in boxes),
        )

    def findings(self, cause: str, rows: Int[np.ndarray, " M"]) -> list[Finding]:
        """A finding for each of these boxes."""
        return [self.finding(cause, row, detail=self._detail(cause, row)) for row in rows.tolist()]

    def _detail(self, cause: str, row: int) -> str:
        x, y, w, h = self.annotations.xywh[row].tolist()
        left, top, right, bottom = self.corners[row].tolist()
        width, height = self.limits[row].astype(int).tolist()
        values = {"x": x, "y": y, "w": w, "h": h, "left": left, "top": top, "right": right, "bottom": bottom}
        return _DETAIL[cause].format(**values, width=width, height=height)


def check_boxes(table: BoxTable) -> list[Finding]:
    """What is wrong with single boxes, and with pairs of one picture."""
    annotations = table.annotations
    found = _left_out(table) + _listed_twice(annotations, table.split)
    rows = _suspects(table)
    empty, outside, overhang = placement(annotations.xywh[rows], table.limits[rows])
    found += table.findings("box_empty", rows[empty])
    found += table.findings("box_outside", rows[outside])
    found += table.findings("box_overhang", rows[overhang])
    thin = np.asarray((annotations.xywh[rows, 2:] <= 1).any(axis=1))
    found += table.findings("one_pixel_box", rows[thin & ~empty & ~outside])
    return found + _pairs(table)


def _suspects(table: BoxTable) -> Int[np.ndarray, " M"]:
    """Boxes that are thin or reach over a border: few, so that what is looked at closely is little."""
    corners, limits, xywh = table.corners, table.limits, table.annotations.xywh
    over = (corners[:, 0] < 0) | (corners[:, 1] < 0) | (corners[:, 2] > limits[:, 0]) | (corners[:, 3] > limits[:, 1])
    return np.flatnonzero(over | (xywh[:, 2] <= 1) | (xywh[:, 3] <= 1))


def _box(values: list[float]) -> Box:
    left, top, right, bottom = values
    return left, top, right, bottom


def _left_out(table: BoxTable) -> list[Finding]:
    """What the reader left out or put right, but for what is looked at here again."""
    found = []
    for where, reason in table.annotations.skipped:
        cause = next((cause for start, cause in _REASONS.items() if reason.startswith(start)), "reader")
        if cause:
            # "annotation 7" of a COCO file; "annotation object[2] in a.xml" of VOC's
            name, _, file = where.removeprefix("annotation ").partition(" in ")
            thing = name if name.startswith("object[") else f"annotation {name}"
            detail = reason if cause == "reader" else ""
            found.append(
                Finding(cause=cause, split=table.split, file=file or table.source, object=thing, detail=detail)
            )
    return found


def _listed_twice(annotations: BoxAnnotations, split: str) -> list[Finding]:
    names = annotations.file_names
    if len(set(names)) == len(names):
        return []
    first: dict[str, int] = {}
    found = []
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            ids = f"image ids {annotations.image_ids[first[name]]} and {annotations.image_ids[index]}"
            found.append(Finding(cause="listed_twice", split=split, file=name, detail=ids, picture=index))
    return found


def _pairs(table: BoxTable) -> list[Finding]:
    """Boxes of one object that was drawn twice."""
    annotations = table.annotations
    rows = np.flatnonzero(annotations.usable)
    inside = table.corners[rows].clip(0, np.tile(table.limits[rows], 2))
    pairs = similar_pairs(inside, table.pictures[rows], least_iou=NEARLY_THE_SAME, most=MOST_PAIRS)
    first, second = rows[pairs.first], rows[pairs.second]
    same_class = annotations.labels[first] == annotations.labels[second]
    same_box = (annotations.xywh[first] == annotations.xywh[second]).all(axis=1)
    found = _pair_findings(table, "box_twice", first, second, pairs.iou, same_class & same_box)
    found += _pair_findings(table, "box_nearly_twice", first, second, pairs.iou, same_class & ~same_box)
    return found + _pair_findings(
        table, "box_of_two_classes", first, second, pairs.iou, ~same_class & (pairs.iou >= THE_SAME)
    )


def _pair_findings(
    table: BoxTable,
    cause: str,
    first: Int[np.ndarray, " P"],
    second: Int[np.ndarray, " P"],
    iou: Float[np.ndarray, " P"],
    which: Bool[np.ndarray, " P"],
) -> list[Finding]:
    names, labels = table.annotations.class_names, table.annotations.labels
    found = []
    for a, b, overlap in zip(first[which].tolist(), second[which].tolist(), iou[which].tolist(), strict=True):
        classes = dict.fromkeys([names[labels[a]], names[labels[b]]])
        found.append(table.finding(cause, a, other=b, detail=f"{' and '.join(classes)}, IoU {overlap:.2f}"))
    return found
