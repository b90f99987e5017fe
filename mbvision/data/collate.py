"""A list of samples to a batch."""

from collections.abc import Sequence

import numpy as np
import torch

from mbvision.structures import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack the images; the result is channels-last in memory because the pictures are."""
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    return Batch(
        images=images.permute(0, 3, 1, 2),
        targets=[sample.target for sample in samples],
        paths=[sample.path for sample in samples],
    )
