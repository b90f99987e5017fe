"""All checks on the splits of one data set: those of its annotations, and those of its pictures."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mbvision.data.base import Reader
from mbvision.data_checks.box_checks import BoxTable, check_boxes
from mbvision.data_checks.class_checks import ClassCounts, check_classes, count_classes
from mbvision.data_checks.findings import Finding
from mbvision.data_checks.mask_checks import check_masks, mask_classes
from mbvision.data_checks.off_by_one import check_off_by_one
from mbvision.data_checks.picture_checks import Looks, look_at_all
from mbvision.data_checks.reach_checks import HeadAnchors, Reach, check_reach
from mbvision.data_checks.sameness import check_sameness
from mbvision.structures import BoxAnnotations, MaskAnnotations

TOLD_OTHERWISE = ("mbvision.data.boxes", "mbvision.data.masks")
"""Loggers whose warnings are findings of their own: boxes, and pictures read as they are stored."""


NOT_TOLD = "left out of the masks"
"""Of those loggers, what is no finding of its own: outlines that cannot be drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found; ``seen`` counts the pictures that were opened, by split, ``reach`` is of the training boxes."""

    findings: list[Finding]
    reach: Reach | None = None
    seen: dict[str, int] = field(default_factory=dict)


def check_annotations(
    truths: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, str],
    head: HeadAnchors | None,
    *,
    quick: bool = False,
) -> Report:
    """The checks that open no picture; ``truths`` are the readers' by split, ``sources`` name the splits' places.

    Without ``head`` anchors play no part, ``quick`` estimates their reach.
    """
    findings: list[Finding] = []
    reach: Reach | None = None
    for split, truth in truths.items():
        for annotations in truth.values():
            if isinstance(annotations, BoxAnnotations):
                table = BoxTable(annotations, split, sources[split])
                findings += check_boxes(table) + check_off_by_one(table)
                if split == next(iter(truths)) and head is not None:
                    reach, found = check_reach(table, head, quick=quick)
                    findings += found
    for task in dict.fromkeys(task for truth in truths.values() for task in truth):
        counts = {split: count_classes(truth[task]) for split, truth in truths.items() if task in truth}
        findings += check_classes({split: known for split, known in counts.items() if known}, sources)
    return Report(findings=findings, reach=reach)


def check_pictures(
    readers: Mapping[str, Reader], sources: Mapping[str, str], *, workers: int, progress: bool
) -> Report:
    """The checks that open every picture once, and a few twice."""
    findings: list[Finding] = []
    looks: dict[str, Looks] = {}
    classes: dict[str, ClassCounts] = {}
    for split, reader in readers.items():
        with warnings_of_readers(split, sources[split]) as told:
            look = looks[split] = look_at_all(reader, split, workers=workers, progress=progress)
        findings += told
        findings += look.findings
        masks = reader.truth.get("segmentation")
        if look.mask_pixels is not None and isinstance(masks, MaskAnnotations):
            findings += check_masks(masks, look.mask_pixels, look.files, split)
            classes[split] = mask_classes(masks, look.mask_pixels)
    findings += check_classes(classes, sources) + check_sameness(readers, looks)
    return Report(findings=findings, seen={split: look.seen for split, look in looks.items()})


@contextmanager
def warnings_of_readers(split: str, source: str) -> Iterator[list[Finding]]:
    """Turn what readers warn of into findings instead of lines of the log; the list is complete at the end."""
    found: list[Finding] = []
    logger = logging.getLogger("mbvision.data")
    handler = _Collector(found, split, source)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


class _Collector(logging.Handler):
    def __init__(self, found: list[Finding], split: str, source: str) -> None:
        super().__init__(logging.WARNING)
        self.found, self.split, self.source = found, split, source

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.name not in TOLD_OTHERWISE or NOT_TOLD in message:
            self.found.append(Finding(cause="reader", split=self.split, file=self.source, detail=message))
