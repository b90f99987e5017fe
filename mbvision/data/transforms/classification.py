"""Classification's augmentation: random resized crop, flip, colours, drawn policies, random erasing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from mbvision.data.transforms.colour import ColourDistortion
from mbvision.data.transforms.fit import Fit
from mbvision.data.transforms.library import A
from mbvision.data.transforms.pipeline import TrainTransform
from mbvision.data.transforms.window import FILL, Array, Window
from mbvision.errors import ConfigError
from mbvision.structures import Sample

Policy = Literal["randaugment", "trivialaugment", "autoaugment"]


class RandomResizedCrop(Window):
    """A crop of ``min_area`` to 1 of the picture's area, with a ratio of width to height of 1/``max_ratio`` up to it.

    GoogLeNet's (arXiv:1409.4842, section 6), for an evaluation with ``fit="crop"``. All ``trials`` crops are drawn at
    once and the first that lies inside is taken; if none does, the largest one in the centre whose ratio is allowed.
    Where evaluation stretches the whole image to the input, the ratio is that of a crop of the stretched image; where
    it keeps the ratio of the sides and fills the rest of the input, a crop is fitted in the same way.
    """

    def __init__(
        self, *, size: tuple[int, int], min_area: float, max_ratio: float, trials: int = 10, fit: Fit = "crop"
    ) -> None:
        super().__init__(size=size, fit="stretch" if fit == "crop" else fit)
        self.min_area, self.max_ratio, self.trials = min_area, max_ratio, trials
        self.whole = size if fit == "stretch" else None

    def draw(self, picture: tuple[int, int], boxes: Array) -> Array:
        """A crop inside the image."""
        random, (height, width) = self.random_generator, self.whole or picture
        area = random.uniform(self.min_area, 1.0, size=self.trials)
        ratio = np.exp(random.uniform(-np.log(self.max_ratio), np.log(self.max_ratio), size=self.trials))
        start = random.random(2)
        sides = np.sqrt(area[:, None] * np.stack([ratio * height / width, width / height / ratio], axis=1))
        inside = (sides <= 1).all(axis=1)
        if not inside.any():
            nearest = np.clip(width / height, 1 / self.max_ratio, self.max_ratio) * height / width
            side = np.array([min(nearest, 1.0), min(1 / nearest, 1.0)])
            return np.concatenate([(1 - side) / 2, (1 + side) / 2])
        side = sides[inside.argmax()]
        return np.concatenate([start * (1 - side), start * (1 - side) + side])


class ClassificationTransform:
    """Albumentations' steps, then torchvision's on the cropped picture, all with the sample's own seed.

    torchvision draws from torch's global numbers, which are put back as they were.
    """

    def __init__(self, *, crop: TrainTransform, steps: list[Callable[[Any], Any]]) -> None:
        self.crop, self.steps = crop, steps

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The augmented sample; the same sample and seed give the same result."""
        sample = self.crop(sample, seed)
        if not self.steps:
            return sample
        picture: Any = Image.fromarray(sample.image)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPU's as well
            for step in self.steps:
                picture = step(picture)
        return replace(sample, image=_as_array(picture))


def _as_array(picture: Any) -> UInt8[np.ndarray, "H W 3"]:
    if isinstance(picture, torch.Tensor):
        picture = picture.permute(1, 2, 0).numpy()
    return np.array(picture)


def classification_train(
    *,
    size: tuple[int, int],
    min_area: float = 0.08,
    max_ratio: float = 4 / 3,
    flip: float = 0.5,
    colour: bool = False,
    policy: Policy | None = None,
    magnitude: int = 9,
    erase: float = 0.0,
    fit: Fit = "crop",
) -> ClassificationTransform:
    """The training pipeline of ImageNet classifiers. ``fit`` is the evaluation's.

    ``policy`` draws operations on colours and geometry: ``randaugment`` (arXiv:1909.13719, two of them, ``magnitude`` 0
    to 30), ``trivialaugment`` (arXiv:2103.10158, one, its wide set), or ``autoaugment`` (arXiv:1805.09501, the policy
    found on ImageNet). ``erase`` is the probability of filling a random rectangle (arXiv:1708.04896).
    """
    for name, value in (("flip", flip), ("erase", erase)):
        if not 0 <= value <= 1:
            raise ConfigError(f"transform.train.{name}={value}: a probability is in 0..1")
    if not 0 < min_area <= 1 or max_ratio < 1:
        raise ConfigError(f"transform.train: min_area={min_area} must be in 0..1, max_ratio={max_ratio} at least 1")
    crop = RandomResizedCrop(size=size, min_area=min_area, max_ratio=max_ratio, fit=fit)
    steps: list[A.BasicTransform] = [crop]
    if flip:
        steps.append(A.HorizontalFlip(p=flip))
    if colour:
        steps.append(ColourDistortion())
    return ClassificationTransform(crop=TrainTransform(steps=steps), steps=_torchvision_steps(policy, magnitude, erase))


def _torchvision_steps(policy: Policy | None, magnitude: int, erase: float) -> list[Callable[[Any], Any]]:
    if policy is not None and policy not in get_args(Policy):
        raise ConfigError(f"transform.train.policy={policy}: choose {', '.join(get_args(Policy))}, or null")
    if not 0 <= magnitude <= 30:
        raise ConfigError(f"transform.train.magnitude={magnitude}: must be in 0..30")
    # Bilinear, and black where a moved image leaves the frame: torchvision references/classification/presets.py.
    drawn: dict[str, Callable[[], Callable[[Any], Any]]] = {
        "randaugment": lambda: v2.RandAugment(magnitude=magnitude, interpolation=InterpolationMode.BILINEAR),
        "trivialaugment": lambda: v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR),
        "autoaugment": lambda: v2.AutoAugment(interpolation=InterpolationMode.BILINEAR),
    }
    steps = [] if policy is None else [drawn[policy]()]
    if erase:
        steps += [v2.PILToTensor(), v2.RandomErasing(p=erase, value=[float(value) for value in FILL])]
    return steps
