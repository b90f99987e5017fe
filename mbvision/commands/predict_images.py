"""The part of ``predict`` for images: they are read, computed and written a few at a time."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from mbvision.errors import ImageError
from mbvision.writing import replace_text

if TYPE_CHECKING:
    from mbvision.inference.predictor import Predictor
    from mbvision.inference.result import Result

MAX_PIXELS_AT_ONCE = 16_000_000
"""Pixels of the images that are in memory together, unless one alone has more: 48 MB."""

Image = UInt8[np.ndarray, "H W 3"]
logger = logging.getLogger(__name__)


def predict_images(
    model: "Predictor",
    paths: Sequence[Path],
    stems: Sequence[str],
    output: Path,
    *,
    save: Sequence[str],
    threshold: float,
) -> bool:
    """Write what is in each image under its stem; whether all could be read. A lone one that cannot be is an error."""
    written = 0
    with tqdm(total=len(paths), unit="image", disable=len(paths) == 1) as bar:
        for places, images in _batches(paths):
            for place, image, result in zip(places, images, model.predict(list(images)), strict=True):
                _write(model, paths[place], output / stems[place], image, result.above(threshold), save)
            written += len(places)
            bar.update(places[-1] + 1 - bar.n)
        bar.update(len(paths) - bar.n)
    print(f"{written} of {len(paths)} images, in {output}")
    return written == len(paths)


def _batches(paths: Sequence[Path]) -> Iterator[tuple[list[int], list[Image]]]:
    """The images that can be read, a few at a time, with their places in ``paths``; others are warned of."""
    from mbvision.inference.predictor import AT_ONCE, to_array

    places: list[int] = []
    images: list[Image] = []
    for place, path in enumerate(paths):
        try:
            image = to_array(path)
        except ImageError as error:
            if len(paths) == 1:
                raise
            logger.warning("skipped: %s", error)
            continue
        pixels = sum(one.shape[0] * one.shape[1] for one in (*images, image))
        if images and (len(images) == AT_ONCE or pixels > MAX_PIXELS_AT_ONCE):
            yield places, images
            places, images = [], []
        places.append(place)
        images.append(image)
    if images:
        yield places, images


def _write(model: "Predictor", path: Path, stem: Path, image: Image, result: "Result", save: Sequence[str]) -> None:
    """The files of one image; with nothing in ``save`` all of them."""
    from mbvision.draw import save_image

    if not save:
        save_image(stem.with_name(f"{stem.name}.jpg"), model.draw(image, result))
    if not save or "json" in save:
        replace_text(stem.with_name(f"{stem.name}.json"), json.dumps(result.as_json(str(path)), indent=1))
    if result.mask is not None and (not save or "masks" in save):
        save_image(stem.with_name(f"{stem.name}.png"), result.mask)
