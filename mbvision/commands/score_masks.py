"""``evaluate`` without a model, for masks: a folder of PNG files against a data set."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbvision.data.cityscapes import SCHEME as CITYSCAPES
from mbvision.data.cityscapes import TRAIN_ID_SCHEME
from mbvision.data.mask_census import MaskCensus
from mbvision.data.masks import MaskReader, read_mask
from mbvision.errors import AnnotationError, DataError
from mbvision.metrics.mean_iou import Confusion, confusion_matrix, segmentation_metrics
from mbvision.structures import MaskAnnotations

_FRAME = re.compile(r".+?_\d{6}_\d{6}")  # CITY_SEQ_FRAME
_logger = logging.getLogger(__name__)
_TRAIN_IDS = re.compile(r"_(label)?trainids$", re.IGNORECASE)


def score_masks(predictions: Path, reader: MaskReader) -> dict[str, Any]:
    """The metrics of the masks in the folder ``predictions`` on all images of ``reader``.

    An image's file is ``ID.png``; for Cityscapes the one ``CITY_SEQ_FRAME*.png`` anywhere below the folder, of label
    ids unless its name ends in ``_trainIds``. Files hold what the data set's own masks do: palette indices, gray values
    or colours. A value that is no class counts as missed, and as found nowhere; oddities of the masks on either side
    are logged.

    Raises:
        DataError: a file is missing, ambiguous, unreadable or of another size than its mask; or what should be label
            ids looks like train ids.
    """
    annotations = reader.annotations
    scheme = annotations.scheme
    classes = len(scheme.class_names)
    matrix: Confusion = np.zeros((classes, classes + 1), dtype=np.int64)
    train_ids = False
    masks, found_masks = MaskCensus(scheme, len(reader)), MaskCensus(scheme, len(reader))
    for index, file in enumerate(_files_of(predictions, annotations)):
        truth = reader.mask(index)
        of_train_ids = scheme == CITYSCAPES and _TRAIN_IDS.search(file.stem) is not None
        train_ids |= of_train_ids
        found_in = TRAIN_ID_SCHEME if of_train_ids else scheme
        size = (truth.shape[0], truth.shape[1])
        found = read_mask(file, root=None, scheme=found_in, size=size, strays=found_masks.strays)
        masks.add(truth, reader.mask_path(index))
        found_masks.add(found, file)
        matrix += confusion_matrix(truth, found, classes)
    if scheme == CITYSCAPES and not train_ids:
        _refuse_train_ids(matrix, predictions)
    if not matrix[:, -1].any():  # they stand where the data set ignores
        found_masks.strays.clear()
    for source, census in (("the data set", masks), (str(predictions), found_masks)):
        for line in (*census.faults(), *census.remarks()):
            _logger.warning("%s: %s", source, line)
    return {**segmentation_metrics(matrix, scheme), "images": len(reader), "images_total": len(reader)}


def _files_of(folder: Path, annotations: MaskAnnotations) -> list[Path]:
    """The file of each image, in the data set's order."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; predictions= must name a folder of PNG files")
    ids = [str(image_id) for image_id in annotations.image_ids]
    if annotations.scheme == CITYSCAPES:
        found = _by_frame(folder)
        for name in ids:
            if len(found[name]) > 1:
                raise DataError(f"{found[name][0]} and {found[name][1]} are both of image {name!r}; remove one")
        files = {name: found[name][0] for name in ids if found[name]}
        kind = "CITY_SEQ_FRAME*.png"
    else:
        files = {name: folder / f"{name}.png" for name in ids if (folder / f"{name}.png").is_file()}
        kind = "ID.png"
    _refuse_missing(folder, [name for name in ids if name not in files], len(ids), kind)
    return [files[name] for name in ids]


def _by_frame(folder: Path) -> defaultdict[str, list[Path]]:
    """All PNG files below the folder, by the frame they are named for."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            frame = _FRAME.match(name)
            if frame and name.endswith(".png"):
                files[frame.group()].append(Path(place, name))
    return files


def _refuse_missing(folder: Path, missing: Sequence[str], total: int, kind: str) -> None:
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {total} images have no file {kind} there, the first is {missing[0]!r}; "
            "predict every image of the split"
        )


def _refuse_train_ids(matrix: Confusion, folder: Path) -> None:
    """No value above the last train id, but some that are no classes: label ids of streets never look like that."""
    above = [label for label, value in enumerate(CITYSCAPES.stored) if value >= len(CITYSCAPES.stored)]
    if matrix[:, -1].any() and not matrix[:, above].any():
        raise AnnotationError(
            f"{folder}: the masks hold no label id above {len(CITYSCAPES.stored) - 1}, so they seem to be train ids; "
            "write label ids, or name the files CITY_SEQ_FRAME_trainIds.png"
        )
