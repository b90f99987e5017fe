"""What the labels of a run say: errors where nothing can be learnt from them or scored by them, warnings of the odd."""

import logging
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mbvision.build import Config, split_source
from mbvision.commands.run_folder import first_process
from mbvision.data.base import Reader
from mbvision.data.file_listing import shown
from mbvision.data.mask_census import take_census
from mbvision.data.masks import MaskReader
from mbvision.errors import DataError
from mbvision.structures import (
    IGNORE,
    AttributeAnnotations,
    IdentityAnnotations,
    LabelAnnotations,
    MaskAnnotations,
)

_MOST_IDS = 10_000
"""So many image ids show whether images lie in folders below those of their classes."""
_logger = logging.getLogger(__name__)


class Said(NamedTuple):
    """What labels say: ``faults`` leave nothing to learn or to score by, ``remarks`` are odd."""

    faults: list[str]
    remarks: list[str]


def check_labels(config: Config, train_reader: Reader, val_reader: Reader) -> None:
    """Raise ``DataError`` where a run could learn nothing from its labels, or its score would say nothing.

    Tasks of weight 0 learn from a teacher, and nothing is scored with ``trainer.limit_val_batches=0``.
    """
    data, heads = config["data"], config["heads"]
    learnt = [name for name in heads if config["tasks"][name].get("weight", 1) != 0]
    for source, fault in _told(data, "train_split", train_reader, learnt, training=True):
        raise DataError(f"{source}: {fault}")
    if val_reader is train_reader or config["trainer"]["limit_val_batches"] == 0:
        return
    for source, fault in _told(data, "val_split", val_reader, heads, training=False):
        raise DataError(
            f"{source}: {fault}, so no score would say anything; trainer.limit_val_batches=0 trains without"
        )


def warn_of_labels(data: Config, reader: Reader, tasks: Collection[str]) -> None:
    """Log what makes the scores of a validation split say little."""
    for source, fault in _told(data, "val_split", reader, tasks, training=False):
        _logger.warning("%s: %s, so its score says nothing", source, fault)


def _told(
    data: Config, split: str, reader: Reader, tasks: Collection[str], *, training: bool
) -> Iterator[tuple[str, str]]:
    """Log the remarks of each task's labels; give their faults with their source."""
    for task, annotations in reader.truth.items():
        if task not in tasks:
            continue
        source = split_source(data, split, task)
        said = _said(annotations, reader, source, training=training)
        for remark in said.remarks if first_process() else ():
            _logger.warning("%s: %s", source, remark)
        yield from ((source, fault) for fault in said.faults)


def _said(annotations: Any, reader: Reader, source: str, *, training: bool) -> Said:
    if isinstance(annotations, MaskAnnotations):
        return _of_masks(reader, source)
    if isinstance(annotations, LabelAnnotations):
        return _of_classes(annotations, training=training)
    if isinstance(annotations, AttributeAnnotations):
        return _of_attributes(annotations, training=training)
    if isinstance(annotations, IdentityAnnotations):
        return _of_identities(annotations, training=training)
    return Said([], [])


def _of_masks(reader: Reader, source: str) -> Said:
    said = Said([], [])
    for masks in _mask_readers(reader):
        census = take_census(masks, source)
        if first_process():
            _logger.info("%s: %s", source, census.summary())
        said.faults.extend(census.faults())
        said.remarks.extend(census.remarks())
    return said


def _mask_readers(reader: Reader) -> Iterator[MaskReader]:
    if isinstance(reader, MaskReader):
        yield reader
    for part in reader.parts:
        yield from _mask_readers(part)


def _of_classes(annotations: LabelAnnotations, *, training: bool) -> Said:
    names = annotations.class_names
    present = np.flatnonzero(np.bincount(annotations.labels, minlength=len(names))).tolist()
    ids = [str(image_id).split("/") for image_id in islice(annotations.image_ids, _MOST_IDS)]
    below = sorted({parts[1] for parts in ids if len(parts) > 2})
    nested = len(below) > 1 and all(len(parts) > 2 for parts in ids)
    folders = f"the images lie in folders below those of the classes: {shown(below)}"
    if training and len(present) < 2:
        text = f"{names[present[0]]!r} is the only class with an image, so there is nothing to tell it from"
        return Said([f"{text}; {folders}: is that one folder level too many?" if nested else text], [])
    return Said([], [f"{folders}; these say no class"] if nested and training else [])


def _of_attributes(annotations: AttributeAnnotations, *, training: bool) -> Said:
    names, values = annotations.names, annotations.values
    yes, no = (values == 1).any(axis=0), (values == 0).any(axis=0)
    if not (yes & no).any():
        kinds = "both 1 (yes) and -1 (no)"
        return Said([f"none of its {len(names)} attributes is {kinds} in the {len(annotations)} images"], [])
    unknown = (values == IGNORE).all(axis=0)
    effects = ("they teach nothing",) * 3
    if not training:
        effects = ("they are not scored", "they are not scored", "every network scores 1 on them")
    cases = zip(("known", "1 (yes)", "-1 (no)"), (unknown, ~yes & ~unknown, ~no & ~unknown), effects, strict=True)
    remarks = []
    for what, which, effect in cases:
        if which.any():
            named = [names[place] for place in np.flatnonzero(which).tolist()]
            told = f"{len(named)} ({shown(named)})"
            remarks.append(f"attributes that are never {what} in the {len(annotations)} images: {told}; {effect}")
    return Said([], remarks)


def _of_identities(annotations: IdentityAnnotations, *, training: bool) -> Said:
    people = len(np.unique(annotations.identities))
    if training:
        fault = f"all {len(annotations)} images are of one identity, so there is nothing to tell it from"
        return Said([fault] if people < 2 else [], [])
    if annotations.same.any() and not annotations.same.all():
        return Said([], [])
    kind = "different identities" if annotations.same.any() else "one identity"
    return Said([f"no pair of images of {kind} among {len(annotations)} images of {people} identities"], [])
