"""Collects detections image by image, over processes too, and scores them as one set."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mbvision.errors import ConfigError, TrainingError
from mbvision.metrics.coco_ap import Backend, CocoScores, check_backend, coco_ap, default_backend
from mbvision.metrics.image_metric import ImageMetric
from mbvision.metrics.results import BoxResults
from mbvision.metrics.voc_ap import check_iou, voc_ap
from mbvision.structures import BoxAnnotations, Detections, Target

Style = Literal["coco", "voc"]


def check_settings(*, style: str, backend: str, iou: float) -> None:
    """Raise a ConfigError unless ``box_metrics`` can work with these."""
    if style not in get_args(Style):
        raise ConfigError(f"style={style!r} is unknown; choose {' or '.join(get_args(Style))}")
    check_backend(backend)
    check_iou(iou)


def box_metrics(
    annotations: BoxAnnotations, results: BoxResults, *, style: Style, backend: Backend, iou: float
) -> dict[str, Any]:
    """The main numbers by name and ``per_class``; VOC style adds the ``iou`` that they are at.

    ``backend`` matters to COCO style only, ``iou`` to VOC style only.
    """
    if style == "coco":
        return coco_ap(annotations, results, backend=backend).metrics
    return _voc_metrics(annotations, results, iou)


def _voc_metrics(annotations: BoxAnnotations, results: BoxResults, iou: float) -> dict[str, Any]:
    voc = voc_ap(annotations, results, iou=iou)
    return {**voc.numbers, "iou": float(iou), "per_class": voc.per_class}


class _ImageResults(NamedTuple):
    """The detections of one image, in pixels of the original."""

    xywh: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


class BoxEvaluator(ImageMetric[_ImageResults]):
    """Detection metrics over the images that were given to ``update`` in any process.

    The ground truth is that of the images scored; ``images`` of ``images_total`` says how many those are. Detections
    are kept as float64 on the CPU.

    Args:
        annotations: the boxes of the whole data set.
        style: ``coco`` for the twelve COCO numbers, ``voc`` for ``mAP07`` and ``mAP``.
        backend: what does COCO's matching; by default `default_backend`.
        iou: the overlap that counts as found in VOC style.

    Raises:
        ConfigError: a setting is unknown, or its package is missing.
    """

    def __init__(
        self,
        *,
        annotations: BoxAnnotations,
        style: Style = "coco",
        backend: Backend | None = None,
        iou: float = 0.5,
    ) -> None:
        super().__init__(annotations.image_ids)
        backend = backend or default_backend()
        check_settings(style=style, backend=backend, iou=iou)
        self.annotations = annotations
        self.style = style
        self.backend = backend
        self.iou = iou
        self._results: BoxResults | None = None
        self._coco: CocoScores | None = None

    @property
    def curves(self) -> dict[str, Float[np.ndarray, " 101"]]:
        """Each class's precision at IoU 0.5 by recall, of the last ``compute`` in COCO style; see `CocoScores`."""
        if self._coco is None:
            raise RuntimeError("curves exist once compute() has been called in COCO style")
        return self._coco.curves

    @property
    def results(self) -> BoxResults:
        """All detections that the last ``compute`` scored, by image of the data set."""
        if self._results is None:
            raise RuntimeError("results exist once compute() has been called")
        return self._results

    def reset(self) -> None:
        """Forget all detections."""
        super().reset()
        self._results = self._coco = None

    def update(self, predictions: Sequence[Detections], targets: Sequence[Target]) -> None:
        """Take the detections of a batch, in pixels of its input images; images without annotated boxes do not count.

        Raises:
            DataError: an image is not in the annotations.
            TrainingError: a box or a score is not finite, or a label names no class of the annotations.
        """
        # One transfer from the device for the whole batch; float64 is made on the CPU, as not every device has it.
        boxes = torch.cat([p.boxes for p in predictions]).detach().cpu() if predictions else torch.empty(0, 4)
        scores = torch.cat([p.scores for p in predictions]).detach().cpu() if predictions else torch.empty(0)
        labels = torch.cat([p.labels for p in predictions]).detach().cpu() if predictions else torch.empty(0)
        counts = [len(p.scores) for p in predictions]
        for target, xyxy, score, label in zip(
            targets, boxes.split(counts), scores.split(counts), labels.split(counts), strict=True
        ):
            if target.boxes is None:
                continue  # of a set without boxes, in a mix of sets
            self._add(target, xyxy, score.double().numpy(), label.long().numpy())

    def _add(self, target: Target, boxes: torch.Tensor, scores: np.ndarray, labels: np.ndarray) -> None:
        image = self.place(target)
        xyxy = target.geometry.to_original(boxes).numpy()
        if not (np.isfinite(xyxy).all() and np.isfinite(scores).all()):
            raise TrainingError(
                f"detections in image {target.image_id!r} are not finite; the network's weights are broken"
            )
        classes = len(self.annotations.class_names)
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            raise TrainingError(
                f"a detection in image {target.image_id!r} has label {labels.max()}, but there are only {classes} "
                "classes; build the network for this data set's classes"
            )
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        self._images.setdefault(image, _ImageResults(xywh, scores, labels))

    def compute(self) -> dict[str, Any]:
        """The main numbers, ``per_class``, ``images`` (scored) and ``images_total``; equal in every process."""
        images = self.gathered()
        self._results = _concatenate(images)
        scored = np.zeros(len(self.annotations), dtype=np.bool_)
        scored[list(images)] = True
        annotations, results = _restrict(self.annotations, self._results, scored)
        if self.style == "coco":
            self._coco = coco_ap(annotations, results, backend=self.backend)
            metrics = self._coco.metrics
        else:
            metrics = _voc_metrics(annotations, results, self.iou)
        return {
            **metrics,
            "images": len(images),
            "images_total": len(self.annotations),
        }


def _concatenate(images: dict[int, _ImageResults]) -> BoxResults:
    none = _ImageResults(np.empty((0, 4)), np.empty(0), np.empty(0, dtype=np.int64))
    parts = [none, *images.values()]
    return BoxResults(
        image_index=np.repeat(np.array(list(images), dtype=np.int64), [len(part.scores) for part in parts[1:]]),
        xywh=np.concatenate([part.xywh for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def _restrict(
    annotations: BoxAnnotations, results: BoxResults, scored: Bool[np.ndarray, " I"]
) -> tuple[BoxAnnotations, BoxResults]:
    """The ground truth of the images scored, and the results with their places in it."""
    if scored.all():
        return annotations, results
    images = np.flatnonzero(scored)
    counts = np.diff(annotations.offsets)
    rows = np.repeat(scored, counts)
    kept = replace(
        annotations,
        image_ids=tuple(annotations.image_ids[i] for i in images),
        file_names=tuple(annotations.file_names[i] for i in images),
        sizes=annotations.sizes[scored],
        offsets=np.concatenate([[0], np.cumsum(counts[scored])]),
        xywh=annotations.xywh[rows],
        labels=annotations.labels[rows],
        areas=annotations.areas[rows],
        crowd=annotations.crowd[rows],
        difficult=annotations.difficult[rows],
        usable=annotations.usable[rows],
        annotation_ids=annotations.annotation_ids[rows],
    )
    return kept, replace(results, image_index=np.searchsorted(images, results.image_index))
