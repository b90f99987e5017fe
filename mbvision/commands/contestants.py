"""What ``benchmark`` compares: a checkpoint in torch, in files of other formats, and torchvision's peer of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from PIL import Image

from mbvision import checkpoint
from mbvision.data.scenes_drawing import draw_scene
from mbvision.deploy.exported import exported
from mbvision.deploy.fastest import Model
from mbvision.deploy.formats import FORMATS
from mbvision.deploy.latency import Step
from mbvision.errors import CheckpointError, ConfigError
from mbvision.inference.predictor import Predictor, predictor_of, to_array
from mbvision.network import Network
from mbvision.tasks.detection import Detection
from mbvision.weights.peer import DetectorPeer, Peer, find_peer

PICTURE = (640, 480)
"""Width and height of the pictures that answers are timed on: the most frequent size of COCO's."""
FIT, NETWORK, POST = "fit", "network", "post"
"""The stages: from picture to input, from input to raw outputs, from those to the answer in the picture's pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to compute a checkpoint; plain values, so that another process can do the same.

    ``file`` is an exported one, None for the network in torch; ``peer`` is torchvision's model instead, a detector with
    ``candidates`` class scores a picture over its threshold where it has weights of its own.
    """

    name: str
    checkpoint: Path
    input_size: tuple[int, int]
    file: Path | None = None
    peer: bool = False
    candidates: int = 0

    def model(self, threads: int | None = None) -> Model:
        """The network in torch, or the file on so many threads."""
        if self.file is None:
            network, tasks, about = checkpoint.rebuild(checkpoint.read(self.checkpoint), self.checkpoint)
            about["config"] |= {"input_size": list(self.input_size), "eval_size": None}
            return network, tasks, about
        suffix = self.file.suffix.lower()
        open_file = next(one.runtime for one in FORMATS.values() if one.suffix == suffix)
        assert open_file is not None
        return exported(open_file(self.file, threads=threads), self.file)

    def steps(self, threads: int) -> list[Step]:
        """From a list of PIL pictures to answers, stage by stage, on so many threads."""
        torch.set_num_threads(threads)
        if self.peer:
            model = self.peer_model()
            if isinstance(model, DetectorPeer) and not model.exact:
                model.set_candidates(pictures(2), 2 * self.candidates)
            return [(FIT, model.inputs), (NETWORK, model.compute), (POST, model.answers)]
        return steps_of(predictor_of(self.model(threads), "cpu"))

    def peer_model(self) -> Peer:
        """torchvision's model. Raises CheckpointError where it has none."""
        network, tasks, about = checkpoint.rebuild(checkpoint.read(self.checkpoint), self.checkpoint)
        return find_peer(network, tasks, about["config"], self.input_size)

    def megabytes(self) -> float:
        """Of the file and what belongs to it; of the weights in memory for what has no file of its own."""
        if self.file is not None:
            beside = [self.file, self.file.with_suffix(".bin")] if self.file.suffix == ".xml" else [self.file]
            return sum(one.stat().st_size for one in beside) / 1e6
        network = self.peer_model().model if self.peer else self.model()[0]
        return sum(one.numel() * one.element_size() for one in network.state_dict().values()) / 1e6


def steps_of(predictor: Predictor) -> list[Step]:
    """A predictor in its stages."""

    def fit(given: Sequence[Image.Image]) -> Any:
        return predictor.inputs([to_array(one) for one in given])

    def compute(given: Any) -> Any:
        inputs, geometries = given
        return predictor.compute(inputs), geometries

    def post(given: Any) -> Any:
        outputs, geometries = given
        found = predictor.predictions(outputs)
        return [predictor.result(one, geometry) for one, geometry in zip(found, geometries, strict=True)]

    return [(FIT, fit), (NETWORK, compute), (POST, post)]


def pictures(count: int) -> list[Image.Image]:
    """Drawn scenes, as large as `PICTURE` says."""
    drawn = [draw_scene(seed).image for seed in range(count)]
    return [Image.fromarray(cv2.resize(one, PICTURE, interpolation=cv2.INTER_CUBIC)) for one in drawn]


def count_candidates(contestant: Contestant) -> int:
    """The class scores of a picture over a detector's threshold; 0 for a network that is none."""
    network, tasks, _ = contestant.model()
    assert isinstance(network, Network)
    task = tasks.get("detection")
    if not isinstance(task, Detection):
        return 0
    stages = dict(contestant.steps(1))
    outputs, _ = stages[NETWORK](stages[FIT](pictures(2)))
    return int((task.scores(outputs["detection"].logits) > task.score_threshold).sum()) // 2


def with_peer(own: Contestant) -> Contestant:
    """torchvision's model beside the network ``own``. Raises CheckpointError where it has none."""
    peer = Contestant(name="torchvision", checkpoint=own.checkpoint, input_size=own.input_size, peer=True)
    try:
        exact = peer.peer_model().exact
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    candidates = 0 if exact else count_candidates(own)
    return Contestant(
        name="torchvision",
        checkpoint=own.checkpoint,
        input_size=own.input_size,
        peer=True,
        candidates=candidates,
    )
