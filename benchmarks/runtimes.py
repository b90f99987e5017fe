"""SSDLite320 and LR-ASPP at 520 in the runtimes that they are exported for, beside torchvision's models.

One thread everywhere, the same random weights on both sides, all in turn. Core: from a batch of one normalised picture
to raw outputs; ours normalises as well, and gives boxes in pixels and probabilities. Whole: a 640x480 PIL picture to
boxes in its pixels, with about 3,000 class scores over the threshold, or to a label for each of its pixels;
torchvision's segmenter gives labels of the input's pixels, which are then spread to the picture's. An int8 file of the
same network joins with --int8-ssdlite or --int8-lraspp. For videos: benchmarks/video.py.

    python benchmarks/runtimes.py
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.exported_pair import Exported, deployed, in_onnxruntime, in_openvino, opened, segmentation_tasks
from benchmarks.inference import set_candidates
from benchmarks.lraspp_pair import MEAN, STD, lraspp_pair
from benchmarks.lraspp_pair import NUM_CLASSES as MASK_CLASSES
from benchmarks.pictures import drawn_sample
from benchmarks.ssdlite_pair import NUM_CLASSES, SIZE, detection_task, ssdlite_pair
from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.deploy.fold import folded
from mbvision.deploy.formats import open_runtime
from mbvision.inference.predictor import Predictor
from mbvision.network import Network
from mbvision.weights.peer import DetectorPeer, Peer, SegmenterPeer

SEGMENT_SIZE = (520, 520)
PICTURES = 4


def runtimes(
    network: Network, tasks: Mapping[str, Any], size: tuple[int, int], folder: Path, int8: Path | None
) -> dict[str, Exported]:
    """Everything installed that can compute the network, by name."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        if find_spec("onnxruntime") and find_spec("onnxscript"):
            path = folder / f"{next(iter(tasks))}.onnx"
            found["ONNX Runtime"] = in_onnxruntime(network, tasks, size, path)
            if find_spec("openvino"):
                found["OpenVINO"] = in_openvino(network, tasks, size, path)
    if int8 is not None:
        found[f"int8, {int8.name}"] = opened(deployed(network, tasks), tasks, open_runtime(int8, threads=1))
    return found


def core(name: str, peer: Peer, network: Network, others: Mapping[str, Exported], images: Tensor, rounds: int) -> Table:
    """Raw outputs of one picture."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (peer.mean, peer.std))
    normalised = (images - mean) / std
    eager, arrays = folded(network), images.numpy()
    fast = images.to(memory_format=torch.channels_last)
    compute: Callable[[Tensor], Any] = peer.compute
    given: Any = (normalised, [SIZE])
    if isinstance(peer, DetectorPeer):
        features, head = peer.model.backbone, peer.model.head
        compute, given = (lambda batch: head(list(features(batch).values()))), normalised
    cases = [
        Case(name="torchvision", run=lambda _: compute(given)),
        Case(name="mbvision, torch", run=lambda _: eager(fast)),
        *(Case(name=f"mbvision, {key}", run=lambda _, one=one: one.runtime.run(arrays)) for key, one in others.items()),
    ]
    title = f"{name}, core"
    return Table(
        title=title, rows=measure(cases, rounds=rounds), rounds=rounds, checks=agreements(network, others, images)
    )


def agreements(network: Network, others: Mapping[str, Exported], images: Tensor) -> list[str]:
    """How far the float files are from the network in torch, of the largest value."""
    task = next(iter(others.values())).tasks if others else {}
    reference = deployed(network, {name: one.task for name, one in task.items()})
    expected = dict(zip(reference.output_names, reference(images), strict=True)) if others else {}
    lines = []
    for key, one in others.items():
        found = one.runtime.run(images.numpy())
        apart = max(float(np.abs(found[name] - e.numpy()).max() / e.abs().max()) for name, e in expected.items())
        claim = f"{key} differs from torch by {apart:.1e} of the largest value"
        lines.append(claim if key.startswith("int8") else check(apart < 1e-3, claim))
    return lines


def whole(
    name: str,
    peer: Peer,
    predictors: Mapping[str, Predictor],
    pictures: Sequence[Image.Image],
    rounds: int,
) -> Table:
    """Pictures to answers, one at a time."""

    def theirs(_: object) -> None:
        for picture in pictures:
            peer.answers(peer.compute(peer.inputs([picture])))

    cases = [Case(name="torchvision", run=theirs)]
    for key, one in predictors.items():
        cases.append(Case(name=f"mbvision, {key}", run=lambda _, one=one: [one.predict(each) for each in pictures]))
    found = measure(cases, rounds=rounds, divide=len(pictures))
    return Table(title=f"{name}, picture to answer", rows=found, rounds=rounds)


def predictors(
    network: Network, tasks: Mapping[str, Any], classes: int, size: tuple[int, int], others: Mapping[str, Exported]
) -> dict[str, Predictor]:
    """Ours in torch and in every runtime."""
    names = {head: [f"class {label}" for label in range(classes)] for head in tasks}
    sides = {"torch": (network, tasks), **{key: (one.network, one.tasks) for key, one in others.items()}}
    return {
        key: Predictor(network=own, tasks=ours, class_names=names, input_size=size, device="cpu")
        for key, (own, ours) in sides.items()
    }


def batch(pictures: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    """The first picture as an input."""
    array = np.asarray(pictures[0].resize(size[::-1]))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float().div(255).contiguous()


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Time both networks and print the tables."""
    arguments = parser(__doc__, rounds=15)
    arguments.add_argument("--int8-ssdlite", type=Path, metavar="FILE", help="an int8 file of this SSDLite")
    arguments.add_argument("--int8-lraspp", type=Path, metavar="FILE", help="an int8 file of this LR-ASPP")
    given = arguments.parse_args(argv)
    one_thread()
    rounds, count = (1, 1) if given.quick else (given.rounds, PICTURES)
    segment_size = (96, 96) if given.quick else SEGMENT_SIZE
    pictures = [Image.fromarray(drawn_sample(seed).image) for seed in range(count)]
    boxes, masks = ssdlite_pair(), lraspp_pair()
    set_candidates(boxes, pictures)
    half = [0.5] * 3
    subjects: list[tuple[str, Peer, Network, dict[str, Any], int, tuple[int, int], Path | None]] = [
        (
            "SSDLite320",
            DetectorPeer(boxes.theirs, SIZE, half, half),
            boxes.ours,
            {"detection": detection_task()},
            NUM_CLASSES,
            SIZE,
            given.int8_ssdlite,
        ),
        (
            f"LR-ASPP {segment_size[0]}",
            SegmenterPeer(masks.theirs, segment_size, MEAN, STD),
            masks.ours,
            segmentation_tasks(),
            MASK_CLASSES,
            segment_size,
            given.int8_lraspp,
        ),
    ]
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for name, peer, network, tasks, classes, size, int8 in subjects[1:] if given.quick else subjects:
            others = runtimes(network, tasks, size, Path(folder), int8)
            tables.append(core(name, peer, network, others, batch(pictures, size), rounds))
            ours = predictors(network, tasks, classes, size, others)
            tables.append(whole(name, peer, ours, pictures, rounds))
    report(tables, given.output)


if __name__ == "__main__":
    main()
