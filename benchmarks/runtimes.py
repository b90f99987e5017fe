"""SSDLite320 and LR-ASPP at 520 in the runtimes that they are exported for, beside torchvision's models.

One thread, the same random weights on both sides, all in turn, each side in a process of its own. Core: from a batch of
one normalised picture to raw outputs; ours normalises as well, and gives boxes in pixels and probabilities. Whole: a
640x480 PIL picture to boxes in its pixels, with about 3,000 class scores over the threshold, or to a label for each of
its pixels; torchvision's segmenter gives labels of the input's pixels, which are then spread to the picture's. In 8
bits the core alone is timed: what random weights find is another matter there. For videos: benchmarks/video.py.

"freed memory kept": glibc gives large freed blocks back to the system, and PyTorch's next step has them mapped anew;
`mbvision`'s commands switch that off, and so does this row for torchvision.

    python benchmarks/runtimes.py
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.exported_pair import deployed, opened, segmentation_tasks, write_files
from benchmarks.inference import set_candidates
from benchmarks.lraspp_pair import MEAN, STD, lraspp_pair
from benchmarks.lraspp_pair import NUM_CLASSES as MASK_CLASSES
from benchmarks.pictures import drawn_sample
from benchmarks.ssdlite_pair import NUM_CLASSES, SIZE, detection_task, ssdlite_pair
from benchmarks.timing import Table, check, measure_apart, one_thread, parser, report
from mbvision.commands.memory import keep_freed_memory
from mbvision.deploy.export import as_batches
from mbvision.deploy.fold import folded
from mbvision.deploy.formats import open_runtime
from mbvision.inference.predictor import Predictor
from mbvision.network import Network
from mbvision.weights.peer import DetectorPeer, Peer, SegmenterPeer

SEGMENT_SIZE = (520, 520)
HALF = (0.5, 0.5, 0.5)
CORE, WHOLE = "core", "picture to answer"


class Subject(NamedTuple):
    """A network of both sides."""

    peer: Peer
    network: Network
    tasks: Mapping[str, Any]
    classes: int
    size: tuple[int, int]


def agreements(found: Subject, files: Mapping[str, Path]) -> list[str]:
    """How far the files are from the network in torch, of the largest value; float ones must be near."""
    reference, images = deployed(found.network, found.tasks), batches(found.size)[0]
    expected = dict(zip(reference.output_names, reference(images), strict=True))
    lines = []
    for runtime, path in files.items():
        values = open_runtime(path, threads=1).run(images.numpy())
        apart = max(float(np.abs(values[name] - e.numpy()).max() / e.abs().max()) for name, e in expected.items())
        claim = f"{runtime} differs from torch by {apart:.1e} of the largest value"
        lines.append(claim if runtime.endswith("int8") else check(apart < 1e-3, claim))
    return lines


def pictures() -> list[Image.Image]:
    """Those that both sides are given, one after the other."""
    return [Image.fromarray(drawn_sample(seed).image) for seed in range(4)]


def batches(size: tuple[int, int]) -> list[Tensor]:
    """The pictures as inputs, one each."""
    return as_batches([np.asarray(picture.resize(size[::-1])) for picture in pictures()], 1)


def subject(name: str, *, quick: bool) -> Subject:
    """Both sides of one network; weights are the same in every process."""
    if name == "LR-ASPP":
        pair, size = lraspp_pair(), (96, 96) if quick else SEGMENT_SIZE
        peer: Peer = SegmenterPeer(pair.theirs, size, MEAN, STD)
        return Subject(peer, pair.ours, segmentation_tasks(), MASK_CLASSES, size)
    boxes = ssdlite_pair()
    set_candidates(boxes, pictures())
    return Subject(
        DetectorPeer(boxes.theirs, SIZE, HALF, HALF), boxes.ours, {"detection": detection_task()}, NUM_CLASSES, SIZE
    )


def torchvision_side(name: str, *, quick: bool, keep: bool) -> dict[str, Callable[[], object]]:
    """What torchvision's users run."""
    if keep:
        keep_freed_memory()
    found = subject(name, quick=quick)
    peer = found.peer
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (peer.mean, peer.std))
    given = (batches(found.size)[0] - mean) / std
    turns = cycle(pictures())

    def core() -> object:
        if isinstance(peer, DetectorPeer):
            return peer.model.head(list(peer.model.backbone(given).values()))
        return peer.compute((given, [SIZE]))

    return {CORE: core, WHOLE: lambda: peer.answers(peer.compute(peer.inputs([next(turns)])))}


def our_side(name: str, runtime: str, path: Path | None, *, quick: bool) -> dict[str, Callable[[], object]]:
    """Ours in plain PyTorch, without a ``path``, or in the runtime of that file."""
    keep_freed_memory()  # as our commands do
    found = subject(name, quick=quick)
    network: nn.Module = found.network
    tasks = found.tasks
    images = batches(found.size)[0]
    if path is None:
        plain, fast = folded(found.network), images.to(memory_format=torch.channels_last)
        functions: dict[str, Callable[[], object]] = {CORE: lambda: plain(fast)}
    else:
        exported = opened(deployed(found.network, tasks), tasks, open_runtime(path, threads=1))
        network, tasks, array = exported.network, exported.tasks, images.numpy()
        functions = {CORE: lambda: exported.runtime.run(array)}
    if runtime.endswith("int8"):
        return functions
    predictor = Predictor(
        network=network,
        tasks=tasks,
        class_names={head: [f"class {label}" for label in range(found.classes)] for head in tasks},
        input_size=found.size,
        device="cpu",
    )
    turns = cycle(pictures())
    return functions | {WHOLE: lambda: predictor.predict(next(turns))}


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Time both networks and print the tables."""
    given = parser(__doc__, rounds=16).parse_args(argv)
    one_thread()
    rounds, quick = 1 if given.quick else given.rounds, given.quick
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("LR-ASPP",) if quick else ("SSDLite", "LR-ASPP"):
            found = subject(name, quick=quick)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporters' own
                files = write_files(found.network, found.tasks, batches(found.size), Path(folder))
            checks = agreements(found, files)
            sides = {"torchvision": partial(torchvision_side, name, quick=quick, keep=False)}
            if not quick:
                sides["torchvision, freed memory kept"] = partial(torchvision_side, name, quick=quick, keep=True)
                sides["mbvision, torch"] = partial(our_side, name, "torch", None, quick=quick)
            for runtime, path in [*files.items()][: 1 if quick else None]:
                sides[f"mbvision, {runtime}"] = partial(our_side, name, runtime, path, quick=quick)
            for part, rows in measure_apart(sides, rounds=rounds).items():
                tables.append(Table(title=f"{name}, {part}", rows=rows, rounds=rounds, checks=checks))
                checks = []
    report(tables, given.output)


if __name__ == "__main__":
    main()
