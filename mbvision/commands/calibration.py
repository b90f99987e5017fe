"""The pictures that say which ranges 8 bits have to span: real ones, as training saw them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from mbvision.build import build_reader
from mbvision.commands.compose import compose_config
from mbvision.commands.predict_sources import find_sources
from mbvision.commands.scoring import evaluation_fit
from mbvision.data.images import read_image
from mbvision.data.transforms.evaluation import fit_image
from mbvision.deploy.export import as_batches
from mbvision.deploy.int8 import Calibration
from mbvision.errors import ConfigError


def calibration(config: Mapping[str, Any], data: Sequence[str]) -> Calibration:
    """What draws the pictures that a configuration of ``export`` asks for; ``data`` are overrides that name a data set.

    Raises ConfigError where it asks for none.
    """
    if config["calibration"] is None and not data:
        raise ConfigError(
            "quantize=int8 needs pictures like those of training: calibration=FOLDER, or data=, whose training split"
            " is drawn from"
        )
    paths = [] if config["calibration"] is None else _pictures(config["calibration"])

    def drawn(size: tuple[int, int], about: dict[str, Any]) -> list[Float[Tensor, "1 3 H W"]]:
        fit = evaluation_fit(about["config"])
        images = _read_paths(paths, config) if paths else _read_split(about, config, data)  # one at a time is in memory
        fitted = [fit_image(image, size, **fit)[0] for image in images]
        if len(fitted) > 1 and all(np.array_equal(image, fitted[0]) for image in fitted[1:]):
            raise ConfigError(
                f"quantize=int8: the {len(fitted)} images to calibrate on are all equal, so they do not show which"
                " ranges 8 bits have to span; give images like those of training"
            )
        return as_batches(fitted, 1)

    return drawn


def _pictures(source: str) -> list[Path]:
    """The pictures of a folder or a glob."""
    try:
        found = find_sources(source)[0]
    except ConfigError:
        found = []
    if not found:
        raise ConfigError(f"calibration={source}: there is no picture; give a folder, or a glob in quotes")
    return found


def _draw(pictures: int, config: Mapping[str, Any]) -> list[int]:
    """So many of them, by the seed alone."""
    order = np.random.default_rng(config["calibration_seed"]).permutation(pictures)
    return [int(place) for place in order[: config["calibration_pictures"]]]


def _read_paths(paths: Sequence[Path], config: Mapping[str, Any]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    return (read_image(paths[place]) for place in _draw(len(paths), config))


def _read_split(
    about: Mapping[str, Any], config: Mapping[str, Any], data: Sequence[str]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    settings = compose_config("evaluate", data)
    heads = list(about["config"]["heads"])
    labelled = {task for one in settings["data"]["sets"] or [settings["data"]] for task in one["readers"]}
    reader = build_reader(
        settings["data"],
        "train_split",
        tasks=[head for head in heads if head in labelled] or heads,
        class_names=about["class_names"],
    )
    return (reader.read(place).image for place in _draw(len(reader), config))
