"""Pictures in, predictions in the pictures' own pixels out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from mbvision.build import eval_size
from mbvision.data.frames import FrameSource
from mbvision.data.images import decode_image, read_image
from mbvision.data.transforms.evaluation import CROP_FRACTION, fit_image
from mbvision.data.transforms.fit import Fit
from mbvision.data.video import open_video
from mbvision.deploy.fastest import FILES, Model, open_fast
from mbvision.deploy.fold import folded
from mbvision.deploy.formats import RUNTIMES
from mbvision.draw import Colour
from mbvision.errors import ConfigError, ImageError
from mbvision.inference.result import Image3, Result, draw_result, make_result
from mbvision.inference.smoothing import LogitSmoother
from mbvision.inference.video import FrameResult, VideoRun
from mbvision.network import Network
from mbvision.structures import Geometry, Segmentation
from mbvision.tasks.base import Task

Picture = str | Path | Image.Image | np.ndarray
AT_ONCE = 16
"""So many pictures of a list are in memory, and go through the network, together."""
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
            parts = (image[start : start + AT_ONCE] for start in range(0, len(image), AT_ONCE))
            return [result for part in parts for result in self._predict([to_array(one) for one in part])]
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

    def _predict(self, images: Sequence[Image3], smoother: LogitSmoother | None = None) -> list[Result]:
        inputs, geometries = self.inputs(images)
        found = self.predictions(self.compute(inputs))
        if smoother:
            found = [_smoothed(one, image, smoother) for one, image in zip(found, images, strict=True)]
        return [self.result(one, geometry) for one, geometry in zip(found, geometries, strict=True)]

    def inputs(self, images: Sequence[Image3]) -> tuple[Float[Tensor, "B 3 H W"], list[Geometry]]:
        """RGB pictures as the network takes them, on its device, and how each lies in its input."""
        fitted = [fit_image(image, self.input_size, self.fit, self.crop_fraction) for image in images]
        stacked = torch.from_numpy(np.stack([image for image, _ in fitted])).to(self.device)
        return stacked.permute(0, 3, 1, 2).float().div_(255), [geometry for _, geometry in fitted]

    @torch.inference_mode()
    def compute(self, inputs: Float[Tensor, "B 3 H W"]) -> Any:
        """The raw outputs of the network, or of the file."""
        return self.network(inputs)

    @torch.inference_mode()
    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """What raw outputs say, for each picture by task, in pixels of the input."""
        found = {name: task.predict(outputs[name], self.input_size) for name, task in self.tasks.items()}
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]

    def result(self, predictions: Mapping[str, Any], geometry: Geometry) -> Result:
        """The predictions for one picture in its own pixels."""
        return make_result(predictions, geometry, self.class_names)

    def draw(self, image: Image3, result: Result) -> Image3:
        """A copy of a picture with its result, see `draw_result`."""
        names, palette = self.class_names.get("detection"), self.palettes.get("segmentation")
        return draw_result(image, result, box_names=names, palette=palette)


def load(
    path: str | Path,
    *,
    device: str = "auto",
    runtime: str | None = None,
    precision: str = "float32",
    pictures: int | None = None,
) -> Predictor:
    """A checkpoint or an exported file, ready to predict; needs neither ``conf/`` nor data.

    ``device`` is auto, cpu, cuda, cuda:1 or mps; exported files run on the processor. A checkpoint is computed by torch
    unless ``runtime`` is onnx or openvino, which export it first and keep the file, or auto, the fastest here for
    ``pictures`` of them; ``precision="bf16"`` is OpenVINO's. See `mbvision.deploy.fastest`.

    Raises `CheckpointError` if the file cannot be used, `ConfigError` for what is not to be had here.
    """
    model, device = open_on(Path(path), device, runtime=runtime, precision=precision, pictures=pictures)
    return predictor_of(model, device)


def predictor_of(model: Model, device: str) -> Predictor:
    """A network, its tasks and its description, ready to predict."""
    network, tasks, about = model
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


def open_on(
    path: Path, device: str, *, runtime: str | None, precision: str = "float32", pictures: int | None = None
) -> tuple[Model, str]:
    """A model as `mbvision.deploy.fastest.open_fast` opens it, and the device it is for: on a GPU ``auto`` is torch."""
    is_exported = path.suffix.lower() in RUNTIMES
    if is_exported or runtime in FILES or precision == "bf16":
        if device not in ("auto", "cpu"):
            asked = path if is_exported else f"runtime={runtime}" if runtime in FILES else f"precision={precision}"
            raise ConfigError(f"device={device}: {asked} computes on the processor; device=cpu, or leave that out")
        device = "cpu"
    elif runtime == "auto" and (chosen := choose_device(device)).type != "cpu":
        logger.info("runtime=auto: torch, on %s", chosen)
        runtime = None
    return open_fast(path, runtime, precision=precision, pictures=pictures), device


def _smoothed(predictions: Mapping[str, Any], image: Image3, smoother: LogitSmoother) -> dict[str, Any]:
    mask = predictions.get("segmentation")
    if not isinstance(mask, Segmentation):
        raise ConfigError(
            "smoothing= averages the logits of masks, which this one does not give: use the checkpoint of a"
            " segmenter, or export it with masks=logits"
        )
    with torch.inference_mode():
        return {**predictions, "segmentation": replace(mask, logits=smoother(mask.logits, image))}


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
