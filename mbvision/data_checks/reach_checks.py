"""What an SSD head's anchors make of a data set's boxes: recall at best by class, and anchors that suit better."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mbvision.data.transforms.fit import Fit, fit_scale
from mbvision.data_checks.anchor_reach import AnchorChoice, MapSizes, best_overlaps, better_anchors, recall_by_class
from mbvision.data_checks.box_checks import BoxTable
from mbvision.data_checks.class_checks import amount
from mbvision.data_checks.findings import Finding
from mbvision.heads.anchors import SSDAnchors

LOW_RECALL = 0.75
"""A class of whose boxes fewer than this share are reached is told. Boxes out of reach still train on their
nearest anchor, from a worse start."""

LEAST_BOXES = 5
"""Of fewer boxes a share says nothing."""

MOST_QUICK = 20_000
"""So many boxes, drawn with a fixed seed, tell which classes are out of reach."""

WORTH_IT = 0.03
"""Other anchors are proposed where their recall, mean over classes, is larger by this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAnchors:
    """The anchors of a configured head: for an input (height, width), feature maps of these sizes.

    A box is reached by an anchor that overlaps it by ``least_iou``, as in the loss. ``finer`` are the maps with one
    more level, of stride 8, and ``finer_taps`` the head's taps for that; None where there is no such level to add.
    """

    anchors: SSDAnchors
    input_size: tuple[int, int]
    fit: Fit
    sizes: MapSizes
    least_iou: float
    finer: MapSizes | None = None
    finer_taps: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The best possible recall of a split; ``median_iou`` is of the best overlaps. Classes without a box are NaN."""

    class_names: Sequence[str]
    counts: Sequence[int]
    recall: Sequence[float]
    median_iou: float
    mean_recall: float
    better: AnchorChoice | None
    better_finer: AnchorChoice | None


def check_reach(table: BoxTable, head: HeadAnchors, *, quick: bool = False) -> tuple[Reach | None, list[Finding]]:
    """The recall of the boxes that may train, and a finding for each class of low recall; None where there is no box.

    ``quick`` looks at no more than `MOST_QUICK` boxes, and tries no other anchors.
    """
    annotations = table.annotations
    rows = np.flatnonzero(annotations.usable)
    if not len(rows):
        return None, []
    if quick and len(rows) > MOST_QUICK:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_QUICK, replace=False))
    boxes, labels = relative_boxes(table, head, rows), annotations.labels[rows]
    number = len(annotations.class_names)
    overlaps = best_overlaps(boxes, head.sizes, head.anchors.shapes(len(head.sizes)))
    recall = recall_by_class(overlaps, labels, number, head.least_iou)
    mean = float(np.nanmean(recall))
    counts = np.bincount(labels, minlength=number)
    low = np.flatnonzero((recall < LOW_RECALL) & (counts >= LEAST_BOXES))
    better, finer = (
        _better(boxes, labels, number, head, sizes, mean + WORTH_IT) if sizes is not None and not quick else None
        for sizes in (head.sizes, head.finer)
    )
    found = []
    for label in low.tolist():
        own = rows[labels == label]
        worst = int(own[overlaps[labels == label].argmin()])
        sides = table.annotations.xywh[worst, 2:]
        detail = (
            f"{annotations.class_names[label]}: {recall[label]:.0%} of {amount(int(counts[label]), 'boxes')}; "
            f"the worst, {sides[0]:g}x{sides[1]:g}"
        )
        found.append(table.finding("out_of_reach", worst, detail=detail))
    reach = Reach(
        class_names=annotations.class_names,
        counts=counts.tolist(),
        recall=recall.tolist(),
        median_iou=float(np.median(overlaps)),
        mean_recall=mean,
        better=better,
        better_finer=finer,
    )
    return reach, found


def relative_boxes(table: BoxTable, head: HeadAnchors, rows: Int[np.ndarray, " M"]) -> Float[np.ndarray, "M 4"]:
    """The boxes ``rows``, clipped to their pictures, as shares of the input into which the pictures are fitted."""
    limits = table.limits[rows]
    clipped = table.corners[rows].clip(0, np.tile(limits, 2))
    height, width = head.input_size
    if head.fit == "stretch":
        scale = np.array([width, height]) / limits
    else:
        ratio = (np.array([width, height]) / limits).min(axis=1, keepdims=True).repeat(2, axis=1)
        scale = np.minimum(ratio, 1.0) if head.fit == "native" else ratio
        fit_scale(head.input_size, head.input_size, head.fit)  # refuses a word that is none of them
    return clipped * np.tile(scale, 2) / np.array([width, height, width, height])


def _better(
    boxes: Float[np.ndarray, "N 4"], labels: Any, number: int, head: HeadAnchors, sizes: MapSizes, least: float
) -> AnchorChoice | None:
    choice = better_anchors(boxes, labels, number, sizes=sizes, layout=head.anchors.layout, least_iou=head.least_iou)
    return choice if choice.recall >= least else None


def reach_lines(reach: Reach, head: HeadAnchors) -> list[str]:
    """A table for people: a line a class, the worst first, and the keys of better anchors."""
    height, width = head.input_size
    lines = [
        f"best possible recall of the anchors at input {width}x{height} (IoU {head.least_iou:g} or more): "
        f"{reach.mean_recall:.3f}, mean over classes; median IoU {reach.median_iou:.2f}"
    ]
    order = sorted((value, name, count) for name, count, value in _rows(reach) if count)
    longest = max(len(name) for _, name, _ in order)
    shown = order if len(order) <= 12 else order[:10]
    lines += [f"  {name:<{longest}}  {value:.3f} of {amount(count, 'boxes')}" for value, name, count in shown]
    if len(order) > len(shown):
        lines.append(f"  and {len(order) - len(shown)} classes with more, up to {order[-1][0]:.3f}")
    for choice, taps in ((reach.better, ()), (reach.better_finer, head.finer_taps)):
        if choice is not None:
            lines.append(f"  {choice.recall:.3f} with {shlex.join(anchor_keys(choice, taps))}")
    return lines


def _rows(reach: Reach) -> list[tuple[str, int, float]]:
    return list(zip(reach.class_names, reach.counts, reach.recall, strict=True))


def anchor_keys(choice: AnchorChoice, taps: Sequence[str] = ()) -> list[str]:
    """The keys of ``train`` that set these anchors, as they are typed."""
    ratios = ",".join(f"{ratio:g}" for ratio in choice.aspect_ratios)
    keys = [f"heads.detection.taps=[{','.join(taps)}]"] if taps else []
    keys += [f"heads.detection.anchors.{key}={getattr(choice, key):g}" for key in ("min_scale", "max_scale")]
    return [*keys, f"heads.detection.anchors.aspect_ratios=[{ratios}]"]


def reach_json(reach: Reach, head: HeadAnchors) -> dict[str, Any]:
    """The same with all digits."""
    choices = {"better": (reach.better, ()), "better_with_a_finer_level": (reach.better_finer, head.finer_taps)}
    return {
        "input_size": list(head.input_size),
        "least_iou": head.least_iou,
        "mean_recall": reach.mean_recall,
        "median_iou": reach.median_iou,
        "per_class": {name: {"boxes": count, "recall": value if count else -1} for name, count, value in _rows(reach)},
        **{
            key: None if choice is None else {**asdict(choice), "keys": anchor_keys(choice, taps)}
            for key, (choice, taps) in choices.items()
        },
    }
