"""Does smoothing steady a segmenter's masks, and what does it cost? Static clips of scenes with camera noise.

    python benchmarks/flicker.py CHECKPOINT [--smoothing 0.8]

Each clip shows one validation scene, every frame with noise of its own. Printed are the share of pixels whose label
changes from frame to frame, and the mean IoU of all frames, with and without smoothing.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

import mbvision
from mbvision.data.frames import FrameSource
from mbvision.data.scenes import scenes_masks
from mbvision.inference.smoothing import flicker
from mbvision.metrics.mean_iou import confusion_matrix, segmentation_metrics


class NoisyClip(FrameSource):
    """One picture as a film: Gaussian noise of ``sigma`` levels on every frame."""

    def __init__(self, image: np.ndarray, *, frames: int, sigma: float, seed: int) -> None:
        self._image, self._sigma, self._random = image, sigma, np.random.default_rng(seed)
        height, width = image.shape[:2]
        super().__init__(name="clip", size=(height, width), rate=Fraction(25), frames_declared=frames)

    def _pictures(self) -> Iterator[tuple[float | None, np.ndarray]]:
        for _ in range(self.frames_declared or 0):
            noise = self._random.normal(0, self._sigma, self._image.shape)
            yield None, (self._image + noise).round().clip(0, 255).astype(np.uint8)

    def close(self) -> None:
        """Nothing is open."""


def measure(
    model: mbvision.Predictor, root: Path, *, clips: int, frames: int, sigma: float, smoothing: float
) -> tuple[float, float]:
    """Mean share of pixels that change label between frames, and mean IoU over all frames."""
    reader = scenes_masks(root=str(root), split="val2017")
    classes = len(reader.class_names["segmentation"])
    matrix = np.zeros((classes, classes + 1), dtype=np.int64)
    changes = []
    for index in range(clips):
        sample = reader.read(index)
        assert sample.target.mask is not None
        previous = None
        source = NoisyClip(sample.image, frames=frames, sigma=sigma, seed=index)
        with model.run(source, smoothing=smoothing) as run:
            for _, result in run:
                assert result.mask is not None
                matrix += confusion_matrix(sample.target.mask.numpy(), result.mask, classes)
                if previous is not None:
                    changes.append(flicker(previous, result.mask))
                previous = result.mask
    return float(np.mean(changes)), segmentation_metrics(matrix, reader.annotations.scheme)["mIoU"]


def main(arguments: Sequence[str]) -> int:
    """Print both lines and what smoothing changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--root", default="datasets/scenes")
    parser.add_argument("--smoothing", type=float, default=0.8)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--frames", type=int, default=15)
    parser.add_argument("--sigma", type=float, default=8.0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = mbvision.load(options.checkpoint, device="cpu")
    found = {}
    for smoothing in (0.0, options.smoothing):
        found[smoothing] = measure(
            model,
            Path(options.root),
            clips=options.clips,
            frames=options.frames,
            sigma=options.sigma,
            smoothing=smoothing,
        )
        print(
            f"smoothing {smoothing}: {found[smoothing][0]:.4%} of pixels change label, mIoU {found[smoothing][1]:.4f}"
        )
    before, after = found[0.0], found[options.smoothing]
    print(f"flicker falls by {1 - after[0] / before[0]:.1%}, mIoU changes by {after[1] - before[1]:+.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
