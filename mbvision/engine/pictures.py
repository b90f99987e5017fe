"""Pictures of a run: the first training batch with its boxes, and predictions beside the ground truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
from lightning.pytorch.callbacks import Callback

from mbvision.data.base import Reader
from mbvision.data.sampling import DrawDataset
from mbvision.draw import draw_boxes, grid, save_image, side_by_side
from mbvision.engine.module import VisionModule
from mbvision.structures import Batch, Detections, Target

DRAWN_SCORE = 0.3
"""Detections below this score are left out of pictures."""


def draw_batch(batch: Batch, names: Sequence[str], path: Path, limit: int = 16) -> None:
    """The first images of a training batch as the network gets them, with their boxes, in one picture."""
    images = batch.images[:limit].permute(0, 2, 3, 1).cpu().numpy()
    drawn = []
    for image, target in zip(images, batch.targets, strict=False):
        image = np.ascontiguousarray(image)
        if target.boxes is not None and target.box_labels is not None:
            image = draw_boxes(image, target.boxes.cpu().numpy(), target.box_labels.cpu().numpy(), names)
        drawn.append(image)
    save_image(path, grid(drawn, columns=4))


def draw_detections(reader: Reader, index: int, found: Detections, target: Target) -> np.ndarray:
    """Ground truth on the left, detections on the right, on the original picture."""
    names = reader.class_names["detection"]
    sample = reader.read(index)
    assert sample.target.boxes is not None and sample.target.box_labels is not None
    truth = draw_boxes(sample.image, sample.target.boxes.numpy(), sample.target.box_labels.numpy(), names)
    shown = found.scores >= DRAWN_SCORE
    boxes = target.geometry.to_original(found.boxes[shown].cpu()).numpy()
    result = draw_boxes(
        sample.image, boxes, found.labels[shown].cpu().numpy(), names, scores=found.scores[shown].cpu().numpy()
    )
    return side_by_side(truth, result, ("ground truth", "predicted"))


class Pictures(Callback):
    """Writes ``samples/train_batch.png`` once and ``samples/val_NUMBER.png`` after each validation."""

    def __init__(self, *, folder: Path, dataset: DrawDataset) -> None:
        self.folder, self.reader = folder, dataset.reader
        self._drew_batch = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch as the network sees it: look at it before a long run."""
        if trainer.is_global_zero and not self._drew_batch and "detection" in self.reader.class_names:
            self._drew_batch = True
            draw_batch(batch, self.reader.class_names["detection"], self.folder / "train_batch.png")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The first pictures of the validation set."""
        assert isinstance(pl_module, VisionModule)
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        for number, (index, found, target) in enumerate(pl_module.kept.get("detection", [])):
            save_image(self.folder / f"val_{number}.png", draw_detections(self.reader, index, found, target))
