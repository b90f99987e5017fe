"""Mixup and cutmix: each picture of a training batch is mixed with the one before it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torchvision.transforms import v2

from mbvision.errors import ConfigError
from mbvision.structures import Sample


class Mixing:
    """Mixes the labelled pictures of a batch, and leaves the others as they are.

    ``mixup`` (arXiv:1710.09412) blends two pictures, ``cutmix`` (arXiv:1905.04899) pastes a rectangle of one into the
    other; the numbers are the parameters of the Beta distributions that the shares are drawn from, 0 for none. With
    both, each batch gets one of them at even odds. A mixed target has ``label_shares`` in the place of its ``label``.
    """

    def __init__(self, *, num_classes: int, mixup: float = 0.0, cutmix: float = 0.0) -> None:
        if mixup < 0 or cutmix < 0:
            raise ConfigError(f"transform.mix: mixup={mixup} and cutmix={cutmix} must be at least 0")
        self.kinds: list[v2.MixUp | v2.CutMix] = []
        if mixup:
            self.kinds.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
        if cutmix:
            self.kinds.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))

    def __call__(self, samples: Sequence[Sample], seed: int) -> list[Sample]:
        """The mixed samples; the same samples and seed give the same result."""
        mixed = list(samples)
        places = [place for place, sample in enumerate(mixed) if sample.target.label is not None]
        if len(places) < 2 or not self.kinds:
            return mixed
        images = torch.from_numpy(np.stack([mixed[place].image for place in places])).permute(0, 3, 1, 2)
        labels = torch.tensor([mixed[place].target.label for place in places])
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global numbers
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPU's as well
            kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
            pictures, shares = kind(images.float(), labels)
        pixels = pictures.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        for place, image, share in zip(places, pixels, shares, strict=True):
            target = replace(mixed[place].target, label=None, label_shares=share.clone())
            mixed[place] = replace(mixed[place], image=image, target=target)
        return mixed
