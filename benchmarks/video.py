"""A video in, the same video with LR-ASPP's masks over it out: our loop beside a plain one of OpenCV and torchvision.

In inference mode, one thread for the networks, the same random weights and the same input, whose short side is 520. The
plain loop does one thing after the other: cv2.VideoCapture, torchvision's preprocessing, its model in plain PyTorch,
upsampling to the frame and argmax, colours blended in NumPy, cv2.VideoWriter. Ours decodes, infers and encodes in three
threads, whose CPU time all counts; it writes H.264, which costs more than the MPEG-4 part 2 of OpenCV and plays in
browsers. It is timed with the network in plain PyTorch, and in ONNX Runtime where that is installed.

    python benchmarks/video.py
"""

import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn import functional
from torchvision.transforms._presets import SemanticSegmentation as Preprocessing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.exported_pair import Exported, in_onnxruntime, segmentation_tasks
from benchmarks.lraspp_pair import NUM_CLASSES, LRASPPPair, lraspp_pair
from benchmarks.pictures import drawn_sample
from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.data.video import open_video
from mbvision.draw_masks import overlay, palette
from mbvision.inference.predictor import Predictor
from mbvision.inference.video import VideoRun
from mbvision.inference.video_writer import VideoWriter

SIZES = ((480, 640), (720, 1280))
COLOURS = np.array(palette(NUM_CLASSES), dtype=np.uint8)


class PlainLoop:
    """What one writes first."""

    def __init__(self, pair: LRASPPPair, short_side: int) -> None:
        self.model = pair.theirs
        self.preprocess = Preprocessing(resize_size=short_side)

    @torch.inference_mode()
    def labels(self, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
        """The best class of every pixel of a frame."""
        batch = self.preprocess(torch.from_numpy(rgb).permute(2, 0, 1))[None]
        logits = functional.interpolate(self.model(batch)["out"], rgb.shape[:2], mode="bilinear", align_corners=False)
        return logits[0].argmax(dim=0).byte().numpy()

    def run(self, source: Path, output: Path) -> None:
        """The whole video."""
        capture = cv2.VideoCapture(str(source))
        size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        writer = cv2.VideoWriter(str(output), cv2.VideoWriter.fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), size)
        while True:
            found, bgr = capture.read()
            if not found:
                break
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            blended = (0.5 * rgb + 0.5 * COLOURS[self.labels(rgb)]).astype(np.uint8)
            writer.write(cv2.cvtColor(blended, cv2.COLOR_RGB2BGR))
        capture.release()
        writer.release()


class OurLoop:
    """What ``predict`` does with a video, without its files of masks and JSON."""

    def __init__(self, pair: LRASPPPair, input_size: tuple[int, int], exported: Exported | None = None) -> None:
        self.predictor = Predictor(
            network=exported.network if exported else pair.ours,
            tasks=exported.tasks if exported else segmentation_tasks(),
            class_names={"segmentation": [f"class {label}" for label in range(NUM_CLASSES)]},
            palettes={"segmentation": palette(NUM_CLASSES)},
            input_size=input_size,
            device="cpu",
        )

    def labels(self, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
        """The best class of every pixel of a frame."""
        mask = self.predictor.predict(rgb).mask
        assert mask is not None
        return mask

    def run(self, source: Path, output: Path) -> None:
        """The whole video."""
        with (
            open_video(source) as video,
            VideoWriter(output, size=video.size, rate=video.rate) as writer,
            VideoRun(video, lambda images: [self.labels(image) for image in images]) as run,
        ):
            for frame, labels in run:
                writer.write(overlay(frame.image, labels, palette(NUM_CLASSES)), frame.time_s)


def make_clip(path: Path, size: tuple[int, int], frames: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    """A window that moves over a drawn scene, written as H.264; returns its frames as they are read back."""
    height, width = size
    scene = drawn_sample(0, (height, width + 4 * frames)).image
    with VideoWriter(path, size=size, rate=Fraction(25)) as writer:
        for number in range(frames):
            writer.write(np.ascontiguousarray(scene[:, 4 * number : 4 * number + width]), number / 25)
    with open_video(path) as video:
        return [frame.image for frame in video]


def equal_share(theirs: PlainLoop, ours: OurLoop, images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> float:
    """The share of pixels that both sides give the same label."""
    return float(np.mean([np.mean(theirs.labels(image) == ours.labels(image)) for image in images]))


def compare(folder: Path, pair: LRASPPPair, size: tuple[int, int], *, quick: bool, rounds: int) -> Table:
    """One table: both loops over a clip of that size."""
    short_side, frames = (64, 3) if quick else (520, 16)
    input_size = (short_side * size[0] // min(size), short_side * size[1] // min(size))
    source, output = folder / "in.mp4", folder / "out.mp4"
    clip = make_clip(source, size, frames)
    theirs = PlainLoop(pair, short_side)
    ours = {"mbvision": OurLoop(pair, input_size)}
    if not quick and find_spec("onnxruntime") and find_spec("onnxscript"):
        path = folder / f"{input_size[0]}x{input_size[1]}.onnx"
        exported = in_onnxruntime(pair.ours, segmentation_tasks(), input_size, path)
        ours["mbvision, ONNX Runtime"] = OurLoop(pair, input_size, exported)
    fitting = [cv2.resize(image, input_size[::-1]) for image in clip[:3]]
    checks = []
    for name, own in ours.items():
        same, same_resized = (equal_share(theirs, own, images) for images in (fitting, clip[:3]))
        checks += [
            check(same > 0.99, f"{name}: of the pixels of frames of the input's size {same:.1%} get the same label"),
            f"{name}: of those of the clip's frames, which both sides resize in their own way, {same_resized:.1%} do",
        ]
    for loop in (theirs, *ours.values()):
        loop.run(source, output)
        with open_video(output) as video:
            written = sum(1 for _ in video)
            checks.append(
                check((written, video.size) == (frames, size), f"{type(loop).__name__} writes {written} frames")
            )
    cases = [
        Case(name="OpenCV and torchvision", run=lambda _: theirs.run(source, output)),
        *(Case(name=name, run=lambda _, own=own: own.run(source, output)) for name, own in ours.items()),
    ]
    return Table(
        title=f"{size[1]}x{size[0]}, a frame",
        rows=measure(cases, rounds=rounds, divide=frames, warm_up=False),
        rounds=rounds,
        checks=checks,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Time both loops over clips of two sizes and print the tables."""
    arguments = parser(__doc__, rounds=5).parse_args(argv)
    one_thread()
    pair = lraspp_pair()
    sizes, rounds = (((96, 128),), 1) if arguments.quick else (SIZES, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        tables = [compare(Path(folder), pair, size, quick=arguments.quick, rounds=rounds) for size in sizes]
    report(tables, arguments.output)


if __name__ == "__main__":
    main()
