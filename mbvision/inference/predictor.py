"""Pictures in, predictions in the pictures' own pixels out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mbvision import checkpoint
from mbvision.build import eval_size
from mbvision.data.frames import FrameSource
from mbvision.data.images import decode_image, read_image
from mbvision.data.transforms.evaluation import CROP_FRACTION, Fit, fit_image
from mbvision.data.video import open_video
from mbvision.draw import Colour, draw_boxes, write_lines
from mbvision.draw_masks import background_of, legend, overlay, with_legend
from mbvision.draw_masks import palette as default_palette
from mbvision.errors import ConfigError, ImageError
from mbvision.inference.fold import folded
from mbvision.inference.smoothing import LogitSmoother
from mbvision.inference.video import FrameResult, VideoRun
from mbvision.masks import upsampled_labels
from mbvision.network import Network
from mbvision.structures import ClassScores, Detections, Geometry, Segmentation
from mbvision.tasks.base import Task

Picture = str | Path | Image.Image | np.ndarray
Image3 = UInt8[np.ndarray, "H W 3"]
MOST_CLASSES = 5
"""So many of the best classes are written and drawn."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found in one picture, as NumPy arrays; boxes are ``x1 y1 x2 y2`` in its own pixels, best first.

    ``names`` are the boxes' classes. ``mask`` has a label for each of the picture's pixels, and ``mask_names`` the
    classes' names by label; None and empty where the network does not segment. ``classes`` are the names of what the
    whole picture may show, best first, with ``class_scores`` (0..1) and ``class_labels``; empty without a classifier.
    """

    width: int
    height: int
    boxes: Float[np.ndarray, "N 4"] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))
    scores: Float[np.ndarray, " N"] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    labels: Int[np.ndarray, " N"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    names: tuple[str, ...] = ()
    mask: UInt8[np.ndarray, "H W"] | None = None
    mask_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    class_scores: Float[np.ndarray, " C"] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    class_labels: Int[np.ndarray, " C"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def above(self, score: float) -> "Result":
        """Only the detections with at least this score."""
        kept = self.scores >= score
        names = tuple(name for name, keep in zip(self.names, kept, strict=True) if keep)
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept], names=names)

    def as_json(self, source: str) -> dict[str, Any]:
        """The JSON of one picture: source, size, detections, best classes, and how many pixels a mask has of each."""
        found = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), self.names, strict=True)
        content: dict[str, Any] = {
            "source": source,
            "width": self.width,
            "height": self.height,
            "detections": [{"box": b, "score": s, "label": n, "name": name} for b, s, n, name in found],
        }
        if self.classes:
            best = zip(self.class_labels.tolist(), self.classes, self.class_scores.tolist(), strict=True)
            content["classes"] = [{"label": n, "name": name, "score": s} for n, name, s in list(best)[:MOST_CLASSES]]
        if self.mask is not None:
            counts = np.bincount(self.mask.reshape(-1), minlength=len(self.mask_names)).tolist()
            content["pixels"] = {name: count for name, count in zip(self.mask_names, counts, strict=False) if count}
        return content


class Predictor:
    """A network made ready for inference, its tasks and class names; see `mbvision.load`.

    ``palettes`` are the colours of masks' classes by task, where the data set has any; ``fit`` is how a picture fills
    the input, with ``crop_fraction`` that of ``crop``.
    """

    def __init__(
        self,
        *,
        network: Network,
        tasks: Mapping[str, Task[Any, Any]],
        class_names: Mapping[str, Sequence[str]],
        input_size: tuple[int, int],
        palettes: Mapping[str, Sequence[Colour]] | None = None,
        fit: Fit = "stretch",
        crop_fraction: float = CROP_FRACTION,
        device: str = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.network = folded(network).to(self.device)
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
            if smoother and isinstance(mask := predictions.get("segmentation"), Segmentation):
                predictions["segmentation"] = replace(mask, logits=smoother(mask.logits, image))
            results.append(self.result(predictions, geometry))
        return results

    def result(self, predictions: Mapping[str, Any], geometry: Geometry) -> Result:
        """The predictions for one picture in its own pixels."""
        height, width = geometry.original
        result = Result(width=width, height=height)
        for name, found in predictions.items():
            if isinstance(found, Detections):
                labels = found.labels.cpu().numpy()
                result = replace(
                    result,
                    boxes=geometry.to_original(found.boxes.cpu()).float().numpy(),
                    scores=found.scores.cpu().numpy(),
                    labels=labels,
                    names=tuple(self.class_names[name][label] for label in labels.tolist()),
                )
            elif isinstance(found, Segmentation):
                mask = upsampled_labels(found, geometry)
                result = replace(result, mask=mask, mask_names=self.class_names[name])
            elif isinstance(found, ClassScores):
                scores, order = found.scores.cpu().sort(descending=True, stable=True)
                result = replace(
                    result,
                    classes=tuple(self.class_names[name][label] for label in order.tolist()),
                    class_scores=scores.numpy(),
                    class_labels=order.numpy(),
                )
        return result

    def draw(self, image: Image3, result: Result) -> Image3:
        """A copy of a picture with its result: the mask below, the boxes on top, the best classes in the corner."""
        if result.mask is not None:
            palette = self.palettes.get("segmentation") or default_palette(len(result.mask_names))
            image = overlay(image, result.mask, palette, background=background_of(result.mask_names))
            present = np.flatnonzero(np.bincount(result.mask.reshape(-1), minlength=256))
            image = with_legend(image, legend(result.mask_names, palette, present.tolist(), width=image.shape[1]))
        if "detection" in self.class_names:
            names = self.class_names["detection"]
            image = draw_boxes(image, result.boxes, result.labels, names, scores=result.scores)
        best = list(zip(result.classes, result.class_scores.tolist(), strict=True))[:MOST_CLASSES]
        return write_lines(image, [f"{name} {score:.2f}" for name, score in best])


def load(path: str | Path, *, device: str = "auto") -> Predictor:
    """A checkpoint, ready to predict; needs neither ``conf/`` nor data. ``device`` is auto, cpu, cuda, cuda:1 or mps.

    Raises `CheckpointError` if the file cannot be used.
    """
    network, tasks, about = checkpoint.rebuild(checkpoint.read(Path(path)), Path(path))
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
