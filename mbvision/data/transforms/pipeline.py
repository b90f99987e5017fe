"""Training samples through albumentations, each with its own seed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mbvision.data.transforms.library import A
from mbvision.structures import Sample


class TrainTransform:
    """An albumentations pipeline over image, boxes and mask, seeded for each sample; what is not annotated stays so."""

    def __init__(self, *, steps: Sequence[A.BasicTransform]) -> None:
        boxes = A.BboxParams(format="pascal_voc", label_fields=["labels"], check_each_transform=False)
        self.pipeline = A.Compose(list(steps), bbox_params=boxes)
        self.without_boxes = A.Compose(list(steps))

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The augmented sample; the same sample and seed give the same result."""
        target = sample.target
        data: dict[str, Any] = {"image": sample.image}
        if target.mask is not None:
            data["mask"] = target.mask.numpy()
        if target.boxes is None or target.box_labels is None:
            self.without_boxes.set_random_seed(seed)
            out = self.without_boxes(**data)
            boxes, labels = None, None
        else:
            self.pipeline.set_random_seed(seed)
            out = self.pipeline(**data, bboxes=target.boxes.numpy(), labels=target.box_labels.numpy())
            found = np.asarray(out["bboxes"], dtype=np.float32).reshape(-1, 4)
            kept = ((found[:, 2:] - found[:, :2]) >= 1.0).all(axis=1)
            boxes = torch.from_numpy(found[kept])
            labels = torch.from_numpy(np.asarray(out["labels"], dtype=np.int64)[kept])
        mask = torch.from_numpy(np.ascontiguousarray(out["mask"])) if target.mask is not None else None
        return replace(
            sample,
            image=np.ascontiguousarray(out["image"]),
            target=replace(target, boxes=boxes, box_labels=labels, mask=mask),
        )
