"""Pictures in, predictions in the pictures' own pixels out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mbvision import checkpoint
from mbvision.build import input_size
from mbvision.data.images import decode_image, read_image
from mbvision.data.transforms import resize
from mbvision.errors import ConfigError, ImageError
from mbvision.inference.fold import folded
from mbvision.network import Network
from mbvision.structures import Detections, Geometry
from mbvision.tasks.base import Task

Picture = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found in one picture, as NumPy arrays; boxes are ``x1 y1 x2 y2`` in its own pixels, best first."""

    width: int
    height: int
    boxes: Float[np.ndarray, "N 4"] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))
    scores: Float[np.ndarray, " N"] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    labels: Int[np.ndarray, " N"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    names: tuple[str, ...] = ()

    def above(self, score: float) -> "Result":
        """Only the detections with at least this score."""
        kept = self.scores >= score
        names = tuple(name for name, keep in zip(self.names, kept, strict=True) if keep)
        return Result(
            width=self.width,
            height=self.height,
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            labels=self.labels[kept],
            names=names,
        )

    def as_json(self, source: str) -> dict[str, Any]:
        """The JSON of one picture: its source, size and detections."""
        found = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), self.names, strict=True)
        return {
            "source": source,
            "width": self.width,
            "height": self.height,
            "detections": [{"box": b, "score": s, "label": n, "name": name} for b, s, n, name in found],
        }


class Predictor:
    """A network made ready for inference, its tasks and class names; see `mbvision.load`."""

    def __init__(
        self,
        *,
        network: Network,
        tasks: Mapping[str, Task[Any, Any]],
        class_names: Mapping[str, Sequence[str]],
        input_size: tuple[int, int],
        device: str = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.network = folded(network).to(self.device)
        self.tasks = dict(tasks)
        self.class_names = {name: tuple(names) for name, names in class_names.items()}
        self.input_size = input_size

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

    @torch.inference_mode()
    def _predict(self, images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[Result]:
        stacked = np.stack([resize(image, self.input_size) for image in images])
        batch = torch.from_numpy(stacked).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        outputs = self.network(batch)
        results: list[dict[str, Any]] = [{} for _ in images]
        for name, task in self.tasks.items():
            for image, result, prediction in zip(
                images, results, task.predict(outputs[name], self.input_size), strict=True
            ):
                result |= self._in_pixels(name, prediction, image.shape[:2])
        return [
            Result(width=image.shape[1], height=image.shape[0], **result)
            for image, result in zip(images, results, strict=True)
        ]

    def _in_pixels(self, name: str, prediction: Detections, size: tuple[int, int]) -> dict[str, Any]:
        scale = (self.input_size[1] / size[1], self.input_size[0] / size[0])
        boxes = Geometry(original=size, scale=scale).to_original(prediction.boxes.cpu())
        labels = prediction.labels.cpu().numpy()
        return {
            "boxes": boxes.float().numpy(),
            "scores": prediction.scores.cpu().numpy(),
            "labels": labels,
            "names": tuple(self.class_names[name][label] for label in labels.tolist()),
        }


def load(path: str | Path, *, device: str = "auto") -> Predictor:
    """A checkpoint, ready to predict; needs neither ``conf/`` nor data. ``device`` is auto, cpu, cuda, cuda:1 or mps.

    Raises `CheckpointError` if the file cannot be used.
    """
    network, tasks, about = checkpoint.rebuild(checkpoint.read(Path(path)), Path(path))
    return Predictor(
        network=network,
        tasks=tasks,
        class_names=about["class_names"],
        input_size=input_size(about["config"]),
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
