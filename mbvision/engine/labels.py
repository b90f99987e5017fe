"""Labels are checked before they are moved to a device, whose kernels fail without naming the image."""

from collections.abc import Sequence

import torch

from mbvision.errors import AnnotationError
from mbvision.structures import Target


def check_box_labels(targets: Sequence[Target], num_classes: int) -> None:
    """Raise `AnnotationError` naming the first image with a box whose label is not in ``0..num_classes - 1``.

    The labels of images, pixels and identities are checked by their tasks, which need them on the processor anyway.
    """
    labels = [(target.image_id, target.box_labels) for target in targets if target.box_labels is not None]
    every = torch.cat([own for _, own in labels]) if labels else torch.empty(0)
    if not len(every) or (every.min() >= 0 and every.max() < num_classes):
        return
    wrong = [(image_id, label) for image_id, own in labels for label in own.tolist() if not 0 <= label < num_classes]
    image_id, label = wrong[0]
    raise AnnotationError(
        f"image {image_id}: a box of it has the label {label}, the network has {num_classes} classes, 0 to"
        f" {num_classes - 1}; correct the annotations, or the classes of the data set"
    )
