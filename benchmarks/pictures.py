"""Pictures of 640 x 480 with boxes for the benchmarks: the built-in scenes, scaled up."""

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from mbvision.data.scenes_drawing import draw_scene
from mbvision.structures import Geometry, Sample, Target

SIZE = (480, 640)
"""Height and width: the most frequent size of COCO's pictures."""


def drawn_sample(seed: int, size: tuple[int, int] = SIZE) -> Sample:
    """The first scene from this seed on that has an object, at ``size`` (height, width)."""
    while not (scene := draw_scene(seed)).objects:
        seed += 1_000_000
    image: UInt8[np.ndarray, "H W 3"] = cv2.resize(scene.image, size[::-1], interpolation=cv2.INTER_CUBIC)
    height, width = scene.image.shape[:2]
    scale = torch.tensor([size[1] / width, size[0] / height]).repeat(2)
    target = Target(
        image_id=seed,
        geometry=Geometry(original=size),
        boxes=torch.tensor([thing.box for thing in scene.objects]) * scale,
        box_labels=torch.tensor([thing.label for thing in scene.objects]),
    )
    return Sample(image=image, target=target)
