"""Classes with too little to learn from, and classes that only one of the splits has."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from mbvision.data_checks.findings import Finding
from mbvision.data_checks.split_counts import idle_classes
from mbvision.structures import BoxAnnotations, LabelAnnotations

FEW_OBJECTS = 20
"""Fewer examples of a class than that are too few to learn from ..."""

SMALL_SHARE = 0.001
"""... and so are fewer than this share of those of the most frequent class: the loss hardly sees them."""


_ONE = {"boxes": "box", "classes": "class", "pictures": "picture", "pixels": "pixel"}


def amount(number: int, unit: str) -> str:
    """``2 boxes``, ``1 box``."""
    return f"{number} {_ONE[unit] if number == 1 else unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCounts:
    """How often each class is in a split, and what is counted: ``boxes``, ``pictures`` or ``pixels``.

    ``idle`` are the boxes of each class whose boxes all are such as do not train.
    """

    names: Sequence[str]
    counts: Int[np.ndarray, " C"]
    unit: str
    idle: Mapping[str, int] = field(default_factory=dict)


def count_classes(annotations: Any) -> ClassCounts | None:
    """The boxes that may train, or the pictures, of each class; None where annotations have no classes to count."""
    if isinstance(annotations, LabelAnnotations):
        names, labels = annotations.class_names, annotations.labels
        return ClassCounts(names=names, counts=np.bincount(labels, minlength=len(names)), unit="pictures")
    if not isinstance(annotations, BoxAnnotations):
        return None
    own = np.array(annotations.category_ids) >= 0  # the others are classes of a network that the data set lacks
    counts = np.bincount(annotations.labels[annotations.usable], minlength=len(own))[own]
    names = tuple(name for name, known in zip(annotations.class_names, own, strict=True) if known)
    return ClassCounts(names=names, counts=counts, unit="boxes", idle=idle_classes(annotations))


def check_classes(by_split: Mapping[str, ClassCounts], sources: Mapping[str, str]) -> list[Finding]:
    """Compare the splits ``train`` and ``val``, either of which may be missing; ``sources`` name them to the user."""
    found = [finding for split, own in by_split.items() for finding in _unused(own, split, sources[split], by_split)]
    for split, own in by_split.items():
        found += [
            Finding(cause="class_idle", split=split, file=sources[split], object=name, detail=amount(count, own.unit))
            for name, count in own.idle.items()
        ]
    if train := by_split.get("train"):
        found += _starved(train, sources["train"])
    if "train" in by_split and "val" in by_split:
        found += _compare(by_split["train"], by_split["val"], sources)
    return found


def _used(counts: ClassCounts) -> dict[str, int]:
    return {name: int(count) for name, count in zip(counts.names, counts.counts, strict=True) if count}


def _unused(own: ClassCounts, split: str, source: str, by_split: Mapping[str, ClassCounts]) -> list[Finding]:
    """Classes that no split has anything of; told once, of the first split."""
    if split != next(iter(by_split)):
        return []
    used = {name for counts in by_split.values() for name in (*_used(counts), *counts.idle)}
    return [
        Finding(cause="class_unused", split=split, file=source, object=name) for name in own.names if name not in used
    ]


def _starved(train: ClassCounts, source: str) -> list[Finding]:
    used = _used(train)
    most = max(used.values(), default=0)
    few = 0 if train.unit == "pixels" else FEW_OBJECTS
    return [
        Finding(cause="class_starved", split="train", file=source, object=name, detail=amount(count, train.unit))
        for name, count in sorted(used.items(), key=lambda item: item[1])
        if count < max(few, SMALL_SHARE * most)
    ]


def _compare(train: ClassCounts, val: ClassCounts, sources: Mapping[str, str]) -> list[Finding]:
    found = []
    for split, own, other in (("train", train, val), ("val", val, train)):
        names = [name for name in own.names if name not in set(other.names)]
        found += [Finding(cause="classes_differ", split=split, file=sources[split], object=name) for name in names]
    trained, scored = _used(train), _used(val)
    both = set(train.names) & set(val.names)
    for name in (name for name in val.names if name in both):
        if name in scored and name not in trained:
            detail = f"{amount(scored[name], val.unit)} in val"
            found.append(
                Finding(cause="class_untrained", split="train", file=sources["train"], object=name, detail=detail)
            )
        elif name in trained and name not in scored:
            found.append(Finding(cause="class_unscored", split="val", file=sources["val"], object=name))
    return found


def id_gaps(annotations: BoxAnnotations) -> list[tuple[int, int]]:
    """The first and last of each run of ids that no category has, between the lowest and the highest that one has.

    No fault, since labels are numbered without gaps; ``class_slots=category_ids`` gives each missing id an empty slot.
    """
    ids = sorted(number for number in annotations.category_ids if number >= 0)
    return [(a + 1, b - 1) for a, b in itertools.pairwise(ids) if b - a > 1]
