"""Pictures of a run: the first training batch with its labels, and predictions beside the ground truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mbvision.data.base import Reader
from mbvision.data.sampling import DrawDataset
from mbvision.draw import captioned, draw_boxes, grid, save_image, side_by_side
from mbvision.draw_faces import pair_picture, with_notes
from mbvision.draw_masks import background_of, overlay
from mbvision.engine.module import KeptSample, VisionModule
from mbvision.masks import upsampled_labels
from mbvision.metrics.verification import Verification
from mbvision.structures import (
    FOUND,
    AttributeScores,
    Batch,
    ClassScores,
    Detections,
    InputLabels,
    Segmentation,
    Target,
)

DRAWN_SCORE = 0.3
"""Detections below this score are left out of pictures."""

TINT = 0.6
"""The share of a class's colour in a tinted picture."""

Picture = UInt8[np.ndarray, "H W 3"]


def draw_batch(batch: Batch, reader: Reader, path: Path, limit: int = 16) -> None:
    """The first images of a training batch as the network gets them, with their labels, in one picture."""
    images = batch.images[:limit].permute(0, 2, 3, 1).cpu().numpy()
    drawn = []
    for image, target in zip(images, batch.targets, strict=False):
        picture, lines = draw_truth(np.ascontiguousarray(image), target, reader), class_lines(target, reader)
        drawn.append(captioned(picture, lines) if lines else picture)
    save_image(path, grid(drawn, columns=4))


def draw_truth(image: Picture, target: Target, reader: Reader) -> Picture:
    """A picture with the boxes and the mask of its target."""
    if target.mask is not None:
        image = draw_mask(image, target.mask.cpu().numpy(), reader)
    if target.boxes is not None and target.box_labels is not None:
        names = reader.class_names["detection"]
        image = draw_boxes(image, target.boxes.cpu().numpy(), target.box_labels.cpu().numpy(), names)
    lines = []
    if target.identity is not None:
        lines.append(f"identity {reader.truth['embedding'].names[target.identity]}")
    if target.attributes is not None:
        marks = zip(reader.class_names["attributes"], target.attributes.tolist(), strict=True)
        lines += [name for name, value in marks if value == 1]
    return with_notes(image, lines) if target.identity is not None or target.attributes is not None else image


def class_lines(target: Target, reader: Reader) -> list[str]:
    """The name of an image's class, or the two largest shares of a mixed one; nothing where it has none."""
    if target.label is not None:
        return [reader.class_names["classification"][target.label]]
    return [] if target.label_shares is None else best_lines(target.label_shares, reader, 2)


def best_lines(scores: Tensor, reader: Reader, count: int = 1) -> list[str]:
    """The names of the best classes, with their scores in percent; those that round to 0 are left out."""
    best = scores.cpu().topk(min(count, len(scores)))
    names = reader.class_names["classification"]
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [f"{names[label]} {100 * score:.0f} %" for label, score in pairs if score >= 0.005]


def draw_mask(image: Picture, labels: UInt8[np.ndarray, "H W"], reader: Reader) -> Picture:
    """A picture tinted by class; background stays as it is."""
    scheme = reader.truth["segmentation"].scheme
    return overlay(image, labels, scheme.palette, TINT, background=background_of(scheme.class_names))


def draw_predictions(image: Picture, predictions: Mapping[str, Any], target: Target, reader: Reader) -> Picture:
    """The original image with what each task says of it; notes come last, since they enlarge it."""
    notes: list[str] = []
    for found in sorted(predictions.values(), key=lambda found: isinstance(found, Detections)):  # boxes on top
        if isinstance(found, Segmentation | InputLabels):
            image = draw_mask(image, upsampled_labels(found, target.geometry), reader)
        elif isinstance(found, Detections):
            shown = found.scores >= DRAWN_SCORE
            image = draw_boxes(
                image,
                target.geometry.to_original(found.boxes[shown].cpu()).numpy(),
                found.labels[shown].cpu().numpy(),
                reader.class_names["detection"],
                scores=found.scores[shown].cpu().numpy(),
            )
        elif isinstance(found, AttributeScores):
            scored = zip(reader.class_names["attributes"], found.scores.tolist(), strict=True)
            notes += [f"{name} {score:.2f}" for name, score in scored if score >= FOUND]
    has_notes = any(isinstance(found, AttributeScores) for found in predictions.values())
    return with_notes(image, notes) if has_notes else image


def draw_sample(dataset: DrawDataset, kept: KeptSample) -> Picture:
    """Ground truth on the left, predictions on the right, on the original picture."""
    reader = dataset.reader
    sample = reader.read(int(dataset.order(0)[kept.place]))
    truth = draw_truth(sample.image, sample.target, reader)
    result = draw_predictions(sample.image, kept.predictions, kept.target, reader)
    classes = [found for found in kept.predictions.values() if isinstance(found, ClassScores)]
    said = [line for found in classes for line in best_lines(found.scores, reader)]
    titles = (["ground truth", *class_lines(kept.target, reader)], ["predicted", *said])
    return side_by_side(truth, result, (": ".join(titles[0]), ": ".join(titles[1])))


def draw_class(dataset: DrawDataset, kept: KeptSample) -> Picture:
    """The original picture above its true class and the one that is predicted, with the score."""
    reader = dataset.reader
    sample = reader.read(int(dataset.order(0)[kept.place]))
    (found,) = kept.predictions.values()
    return captioned(
        sample.image, [f"true: {line}" for line in class_lines(kept.target, reader)] + best_lines(found.scores, reader)
    )


def draw_pairs(metric: Verification, reader: Reader, count: int = 16) -> Picture:
    """Pairs of one identity, from near to far, then pairs of two, each with its distance."""
    while parts := [part for part in reader.parts if "embedding" in part.class_names]:
        reader = parts[0]  # the metric counts the images of the set with identities alone
    pictures = [
        pair_picture(reader.read(first).image, reader.read(second).image, same=same, distance=distance)
        for first, second, same, distance in metric.examples(count)
    ]
    return grid(pictures, columns=4)


def draw_samples(module: VisionModule, dataset: DrawDataset) -> dict[str, Picture]:
    """The kept pictures by number, a classifier's as one grid, `classes`; `pairs` where identities are verified."""
    drawn = {}
    if module.kept and set(module.tasks) == {"classification"}:
        drawn["classes"] = grid([draw_class(dataset, kept) for kept in module.kept], columns=4)
    elif set(module.tasks) - {"embedding"}:  # a vector alone cannot be drawn
        drawn = {str(number): draw_sample(dataset, kept) for number, kept in enumerate(module.kept)}
    metric = module.evaluators.get("embedding")
    if isinstance(metric, Verification) and metric.examples(2):
        drawn["pairs"] = draw_pairs(metric, dataset.reader)
    return drawn


class Pictures(Callback):
    """Writes ``samples/train_batch.png`` once and, after each validation, ``samples/val_NUMBER.png``.

    A classifier's pictures go together into ``val_classes.png``.
    """

    def __init__(self, *, folder: Path, data: Mapping[str, DrawDataset | None]) -> None:
        self.folder = folder
        self.data = {name: dataset for name, dataset in data.items() if dataset is not None}
        self._drew_batch = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch as the network sees it: look at it before a long run."""
        if trainer.is_global_zero and not self._drew_batch:
            self._drew_batch = True
            draw_batch(batch, self.data["train"].reader, self.folder / "train_batch.png")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The first pictures of the validation set."""
        assert isinstance(pl_module, VisionModule)
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        for name, picture in draw_samples(pl_module, self.data["val"]).items():
            save_image(self.folder / f"val_{name}.png", picture)
