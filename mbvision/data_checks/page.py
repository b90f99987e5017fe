"""A page of pictures of the worst findings, with their boxes."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from mbvision.data.base import Reader
from mbvision.data_checks.findings import Box, Finding, by_cause
from mbvision.draw import captioned, draw_boxes, grid
from mbvision.draw_masks import overlay, palette
from mbvision.errors import DataError
from mbvision.structures import Sample

MOST = 24
MOST_OF_A_CAUSE = 4
_COLUMNS = 6
_SIDE = 280  # pixels of a picture on the page
_LETTERS = 43  # that fit below one
_FAULT = (255, 0, 0)
_AROUND = 48  # pixels around a fault that are shown at least


def worst_page(findings: Sequence[Finding], readers: Mapping[str, Reader]) -> UInt8[np.ndarray, "H W 3"] | None:
    """The first findings of each cause, most serious cause first, with the faulty boxes in red; None for no picture.

    ``readers`` are by split. A picture that cannot be read is a gray square.
    """
    shown: list[Finding] = []
    for group in by_cause(findings).values():
        shown += [finding for finding in group if finding.picture is not None][:MOST_OF_A_CAUSE]
    tiles = [_tile(finding, readers[finding.split]) for finding in shown[:MOST] if finding.split in readers]
    return grid(tiles, _COLUMNS) if tiles else None


def _tile(finding: Finding, reader: Reader) -> UInt8[np.ndarray, "H W 3"]:
    assert finding.picture is not None, "only findings about a picture are shown"
    title = f"{finding.cause.replace('_', ' ')} ({finding.split})"
    lines = [title, finding.place[-_LETTERS:], finding.detail[:_LETTERS]]
    try:
        image = _drawn(reader.read(finding.picture), finding.boxes, reader)
    except DataError:
        image = np.full((_SIDE, _SIDE, 3), 128, dtype=np.uint8)
        cv2.line(image, (0, 0), (_SIDE, _SIDE), _FAULT, 2)
        cv2.line(image, (0, _SIDE), (_SIDE, 0), _FAULT, 2)
    return captioned(image, lines, side=_SIDE)


def _drawn(sample: Sample, boxes: Sequence[Box], reader: Reader) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its mask and its boxes, cut to what surrounds the faulty ones."""
    image, target = sample.image, sample.target
    if target.mask is not None:
        image = overlay(image, target.mask.numpy(), palette(len(reader.class_names["segmentation"])))
    if target.boxes is not None and target.box_labels is not None:
        names = reader.class_names["detection"]
        image = draw_boxes(image, target.boxes.numpy(), target.box_labels.numpy(), names)
    height, width = image.shape[:2]
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    corners = corners[np.isfinite(corners).all(axis=1)].clip(-width - height, 2 * (width + height))
    if not len(corners):
        return image
    image = np.ascontiguousarray(image).copy()
    for left, top, right, bottom in corners.round().astype(int).tolist():
        grow = 2 if min(right - left, bottom - top) < 4 else 0
        cv2.rectangle(image, (left - grow, top - grow), (right + grow, bottom + grow), _FAULT, 2)
    left, top = corners[:, :2].min(axis=0)
    right, bottom = corners[:, 2:].max(axis=0)
    around = max(_AROUND, right - left, bottom - top)
    x1, x2 = (int(np.clip(x, 0, width)) for x in (left - around, right + around))
    y1, y2 = (int(np.clip(y, 0, height)) for y in (top - around, bottom + around))
    return image[y1:y2, x1:x2] if x2 > x1 and y2 > y1 else image
