"""``evaluate`` without a model: a file of detections against a file of annotations."""

import logging
from pathlib import Path
from typing import Any, cast

from mbvision.data.coco import load_coco
from mbvision.data.voc import load_voc, voc
from mbvision.errors import ConfigError
from mbvision.metrics.box_evaluator import Style, box_metrics, check_settings
from mbvision.metrics.box_frames import box_hints
from mbvision.metrics.coco_ap import Backend, default_backend
from mbvision.metrics.results import read_results
from mbvision.structures import BoxAnnotations

logger = logging.getLogger(__name__)


def score_results(
    predictions: Path,
    annotations: Path,
    *,
    style: str = "coco",
    backend: str | None = None,
    iou: float = 0.5,
    split: str | None = None,
) -> dict[str, Any]:
    """The metrics of ``predictions`` on all images of ``annotations``.

    Args:
        predictions: a results JSON, or a folder of VOC's comp4 files; see ``read_results``.
        annotations: an instances JSON, a VOC split file (``ImageSets/Main/val.txt``), a VOC folder
            with ``split``, or a folder of XML files.
        style: ``coco`` or ``voc``.
        backend: ``pycocotools`` or ``hotcoco``; by default hotcoco where it is installed.
        iou: the overlap that counts as found in VOC style.
        split: which split of a VOC folder.

    Raises:
        ConfigError: a setting or the kind of ``annotations`` is unknown.
        DataError: a file cannot be used.
    """
    backend = backend or default_backend()
    check_settings(style=style, backend=backend, iou=iou)
    truth = _load_annotations(annotations, split)
    results = read_results(predictions, truth)
    for hint in box_hints(truth, results):
        logger.warning("%s: %s", predictions, hint)
    metrics = box_metrics(truth, results, style=cast(Style, style), backend=cast(Backend, backend), iou=iou)
    return {**metrics, "images": len(truth), "images_total": len(truth)}


def _load_annotations(path: Path, split: str | None) -> BoxAnnotations:
    path = path.absolute()
    if path.is_dir():
        if split is not None:
            return voc(root=path, split=split).annotations
        if any(path.glob("*.xml")):
            return voc(root=path.parent, split=path.name).annotations
        raise ConfigError(f"annotations={path} is a folder without XML files; name a split of it, as split=val")
    if path.suffix != ".txt":
        return load_coco(path)
    if path.parts[-3:-1] != ("ImageSets", "Main"):
        raise ConfigError(f"annotations={path} is no split file of VOC; give .../ImageSets/Main/SPLIT.txt")
    return load_voc(path.parents[2], path.stem)
