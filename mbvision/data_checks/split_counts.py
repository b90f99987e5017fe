"""How many images and labels each split has, and which boxes do not train and why."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from mbvision.data.boxes import placement
from mbvision.structures import BoxAnnotations, LabelAnnotations

LEFT_OUT = "left out"
"""Ends the readers' reasons for boxes that are not in the table at all."""


def idle_boxes(annotations: BoxAnnotations) -> dict[str, int]:
    """How many boxes do not train, by reason; a box has the first reason that holds. The last is that of readers."""
    images = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
    limits = annotations.sizes[images][:, ::-1].astype(np.float64)
    empty, outside, _ = placement(annotations.xywh, limits)
    reasons = {
        "crowd": annotations.crowd,
        "difficult": annotations.difficult,
        "without area": empty,
        "outside their image": outside,
    }
    counts: dict[str, int] = {}
    left = ~annotations.usable
    for reason, which in reasons.items():
        counts[reason] = int((which & left).sum())
        left = left & ~which
    counts["not to be read"] = len({where for where, what in annotations.skipped if what.endswith(LEFT_OUT)})
    return {reason: count for reason, count in counts.items() if count}


def idle_classes(annotations: BoxAnnotations) -> dict[str, int]:
    """The classes that have boxes of which none trains, and how many they have."""
    number = len(annotations.class_names)
    every = np.bincount(annotations.labels, minlength=number)
    training: Int[np.ndarray, " C"] = np.bincount(annotations.labels[annotations.usable], minlength=number)
    idle = np.flatnonzero((every > 0) & (training == 0)).tolist()
    return {annotations.class_names[label]: int(every[label]) for label in idle}


def training_text(annotations: BoxAnnotations) -> str:
    """``8 do not train (8 crowd)`` or ``all train``."""
    idle = idle_boxes(annotations)
    reasons = ", ".join(f"{count} {reason}" for reason, count in idle.items())
    return f"{sum(idle.values())} do not train ({reasons})" if idle else "all train"


def count_line(images: int, truth: Mapping[str, Any]) -> str:
    """What a split holds: ``12 images, 24 boxes, of which 8 do not train (8 crowd), 2 images without a box``."""
    parts = [f"{images} images"]
    for annotations in truth.values():
        if isinstance(annotations, BoxAnnotations):
            parts.append(_boxes(annotations))
        elif isinstance(annotations, LabelAnnotations):
            parts.append(f"{len(annotations.class_names)} classes")
    return ", ".join(parts)


def _boxes(annotations: BoxAnnotations) -> str:
    every = len(annotations.labels) + idle_boxes(annotations).get("not to be read", 0)
    parts = [f"{every} boxes, of which {training_text(annotations)}"]
    if empty := int((np.diff(annotations.offsets) == 0).sum()):
        parts.append(f"{empty} images without a box")
    return ", ".join(parts)
