"""Pictures in, predictions in the pictures' own pixels out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import nn

from mbvision.build import eval_size
from mbvision.data.frames import FrameSource
from mbvision.data.images import decode_image, read_image
from mbvision.data.transforms.evaluation import CROP_FRACTION, Fit, fit_image
from mbvision.data.video import open_video
from mbvision.deploy.exported import open_model
from mbvision.deploy.fold import folded
from mbvision.draw import Colour
from mbvision.errors import ConfigError, ImageError
from mbvision.inference.result import Image3, Result, draw_result, make_result
from mbvision.inference.smoothing import LogitSmoother
from mbvision.inference.video import FrameResult, VideoRun
from mbvision.network import Network
from mbvision.structures import Geometry, Segmentation
from mbvision.tasks.base import Task

Picture = str | Path | Image.Image | np.ndarray
logger = logging.getLogger(__name__)


class Predictor:
    """A network made ready for inference, its tasks and class names; see `mbvision.load`.

    ``palettes`` are the colours of masks' classes by task, where the data set has any; ``fit`` is how a picture fills
    the input, with ``crop_fraction`` that of ``crop``.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        tasks: Mapping[str, Task[Any, Any]],
        class_names: Mapping[str, Sequence[str]],
        input_size: tuple[int, int],
        palettes: Mapping[str, Sequence[Colour]] | None = None,
        fit: Fit = "stretch",
        crop_fraction: float = CROP_FRACTION,
        device: str = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.network = (folded(network) if isinstance(network, Network) else network).to(self.device)
        self.tasks = dict(tasks)
        self.class_names = {name: tuple(names) for name, names in class_names.items()}
        self.palettes: dict[str, list[Colour]] = {
            name: [(red, green, blue) for red, green, blue in colours] for name, colours in (palettes or {}).items()
        }
        self.input_size, self.fit, self.crop_fraction = input_size, fit, crop_fraction

    @overload
    def predict(self, image: Picture) -> Result: ...
    @overload
    def predict(self, image: list[Picture]) -> list[Result]: ...

    def predict(self, image: Picture | list[Picture]) -> Result | list[Result]:
        """What is in a picture (a path, a PIL image or a uint8 ``[H, W, 3]`` RGB array); a list gives a list.

        Raises `ImageError` for a picture that cannot be read, naming it.
        """
        if isinstance(image, list):
            return self._predict([to_array(one) for one in image]) if image else []
        return self._predict([to_array(image)])[0]

    def predict_video(self, path: str | Path, *, smoothing: float = 0.0) -> Iterator[FrameResult[Result]]:
        """A video's frames, each with its result: ``for frame, result in model.predict_video(path)``.

        ``smoothing`` (0..1) steadies masks, see `LogitSmoother`. Raises `VideoError` for a file that is no video; one
        that is damaged later on ends early, with a warning.
        """
        with open_video(Path(path)) as source, self.run(source, smoothing=smoothing) as run:
            yield from run
        if source.damage:
            logger.warning("%s", source.summary)

    def run(self, source: FrameSource, *, smoothing: float = 0.0) -> VideoRun[Result]:
        """Any source of frames through the network, decoded while the network and the caller work."""
        if not 0 <= smoothing < 1:
            raise ConfigError(f"smoothing={smoothing}: must be at least 0 and below 1")
        smoother = LogitSmoother(smoothing) if smoothing else None

        def step(images: list[Image3]) -> list[Result]:
            return self._predict(images, smoother)

        return VideoRun(source, step)

    @torch.inference_mode()
    def _predict(self, images: Sequence[Image3], smoother: LogitSmoother | None = None) -> list[Result]:
        fitted = [fit_image(image, self.input_size, self.fit, self.crop_fraction) for image in images]
        stacked = torch.from_numpy(np.stack([image for image, _ in fitted])).to(self.device)
        outputs = self.network(stacked.permute(0, 3, 1, 2).float().div_(255))
        found = {name: task.predict(outputs[name], self.input_size) for name, task in self.tasks.items()}
        results = []
        for row, (image, geometry) in enumerate(fitted):
            predictions = {name: predictions[row] for name, predictions in found.items()}
            if smoother:
                mask = predictions.get("segmentation")
                if not isinstance(mask, Segmentation):
                    raise ConfigError(
                        "smoothing= averages the logits of masks, which this one does not give: use the checkpoint of a"
                        " segmenter, or export it with masks=logits"
                    )
                predictions["segmentation"] = replace(mask, logits=smoother(mask.logits, image))
            results.append(self.result(predictions, geometry))
        return results

    def result(self, predictions: Mapping[str, Any], geometry: Geometry) -> Result:
        """The predictions for one picture in its own pixels."""
        return make_result(predictions, geometry, self.class_names)

    def draw(self, image: Image3, result: Result) -> Image3:
        """A copy of a picture with its result, see `draw_result`."""
        names, palette = self.class_names.get("detection"), self.palettes.get("segmentation")
        return draw_result(image, result, box_names=names, palette=palette)


def load(path: str | Path, *, device: str = "auto") -> Predictor:
    """A checkpoint or an exported file, ready to predict; needs neither ``conf/`` nor data.

    ``device`` is auto, cpu, cuda, cuda:1 or mps; exported files run on the processor.

    Raises `CheckpointError` if the file cannot be used.
    """
    network, tasks, about = open_model(Path(path))
    return Predictor(
        network=network,
        tasks=tasks,
        class_names=about["class_names"],
        palettes=about.get("palettes", {}),
        input_size=eval_size(about["config"]),
        fit=about["config"].get("fit", "stretch"),
        crop_fraction=about["config"].get("crop_fraction", CROP_FRACTION),
        device=device,
    )


def to_array(image: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """Any kind of picture as an RGB array."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return decode_image(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if 0 in image.shape:
            raise ImageError(f"an array of shape {image.shape} holds no pixel")
        return image
    kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise ImageError(f"cannot predict on {kind}: give a path, a PIL image or a uint8 array [H, W, 3] in RGB")


def choose_device(name: str) -> torch.device:
    """The device of that name; auto is the first GPU, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ConfigError(f"device={name} is not to be had here: {str(error).splitlines()[0]}") from error
    return device
