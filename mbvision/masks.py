"""Labels at a picture's own size from the coarse logits of a segmenter.

The result is what bilinear upsampling (half-pixel centres, clamped at the edges) followed by an argmax gives; the
full-size float maps of all classes, which cost that way most of its time and memory, never exist at once.
"""

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from mbvision.structures import Geometry, InputLabels, Segmentation

Resize = Callable[[Float32[np.ndarray, "h w"]], Float32[np.ndarray, "H W"]]

_BAND_VALUES = 1 << 24
"""Logits that the row bands of `_by_bands` hold at a time: 64 MiB of float32."""


def upsampled_labels(segmentation: Segmentation | InputLabels, geometry: Geometry) -> UInt8[np.ndarray, "H W"]:
    """The best class of every pixel of the original picture, at ``geometry.original``; of equals the first.

    Of labels of the input's pixels, the nearest pixel's. The logits cover the whole input, padding included;
    ``geometry`` says where in it the picture lies. On the CPU two float maps exist at a time, elsewhere a band of rows
    of all classes. The logits must be finite and of 1 to 255 classes.
    """
    if isinstance(segmentation, InputLabels):
        return _nearest(segmentation.labels, geometry)
    logits = segmentation.logits.detach().float()
    axes = [
        _Axis(length, cells, scale=scale * cells / size, start=offset * cells / size)
        for length, cells, size, scale, offset in zip(
            geometry.original,
            logits.shape[1:],
            segmentation.input_size,
            geometry.scale[::-1],
            geometry.offset[::-1],
            strict=True,
        )
    ]
    if logits.device.type != "cpu":
        return _by_bands(logits, axes)
    planes = logits.numpy()[:, : axes[0].needed, : axes[1].needed]
    labels = _best_of(planes, _corner_resize(axes) if all(axis.start == 0 for axis in axes) else _any_resize(axes))
    height, width = geometry.original
    return np.ascontiguousarray(labels[:height, :width])


def _nearest(labels: UInt8[np.ndarray, "h w"], geometry: Geometry) -> UInt8[np.ndarray, "H W"]:
    places = [
        (((np.arange(length) + 0.5) * scale + offset).astype(np.int64)).clip(0, side - 1)
        for length, side, scale, offset in zip(
            geometry.original, labels.shape, geometry.scale[::-1], geometry.offset[::-1], strict=True
        )
    ]
    return labels[places[0][:, None], places[1]]


class _Axis:
    """One axis of the picture: pixel ``i`` has its centre at ``(i + 0.5) * scale + start`` cells of the logits."""

    def __init__(self, length: int, cells: int, *, scale: float, start: float) -> None:
        self.length, self.cells, self.scale, self.start = length, cells, scale, start

    @property
    def needed(self) -> int:
        """How many cells, counted from the first, the pixels lie between."""
        last = (self.length - 0.5) * self.scale + self.start - 0.5
        return min(self.cells, max(int(last), 0) + 2)

    def matrix(self) -> Float32[np.ndarray, "n cells"]:
        """What makes pixels of the needed cells."""
        before, behind, share = (column.numpy() for column in self.neighbours(torch.device("cpu")))
        matrix = np.zeros((self.length, self.needed), dtype=np.float32)
        pixels = np.arange(self.length)
        matrix[pixels, before] = 1 - share
        matrix[pixels, behind] += share
        return matrix

    def neighbours(self, device: torch.device) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, " n"]]:
        """For each pixel the cells before and behind it, and how far it is on the way from one to the other."""
        centres = (torch.arange(self.length, dtype=torch.float64) + 0.5) * self.scale + self.start - 0.5
        centres = centres.clamp(0, self.cells - 1)
        before = centres.long()
        behind = (before + 1).clamp(max=self.cells - 1)
        return before.to(device), behind.to(device), (centres - before).float().to(device)


def _corner_resize(axes: Sequence[_Axis]) -> Resize:
    """For pictures in the corner of the input: OpenCV's grid starts there too. The result may be a little larger."""
    return partial(cv2.resize, dsize=None, fx=1 / axes[1].scale, fy=1 / axes[0].scale, interpolation=cv2.INTER_LINEAR)


def _any_resize(axes: Sequence[_Axis]) -> Resize:
    """For pictures anywhere in the input, three times slower."""
    down, across = axes[0].matrix(), np.ascontiguousarray(axes[1].matrix().T)
    return lambda plane: down @ (plane @ across)


def _best_of(logits: Float32[np.ndarray, "C h w"], resize: Resize) -> UInt8[np.ndarray, "H W"]:
    """Class by class: each resized plane is compared with the best so far."""
    first, *others = _contenders(logits)
    best = resize(logits[first])
    labels = np.full(best.shape, first, dtype=np.uint8)
    better = np.empty_like(labels)
    for label in others:
        plane = resize(logits[label])
        cv2.compare(plane, best, cv2.CMP_GT, dst=better)  # 255 where it is
        cv2.max(plane, best, dst=best)
        # Labels rise, so the larger one is the newer: no slower masked copy is needed.
        np.bitwise_and(better, np.uint8(label), out=better)
        np.maximum(labels, better, out=labels)
    return labels


def _contenders(logits: Float32[np.ndarray, "C h w"]) -> list[int]:
    """The classes that can be the best of any pixel.

    Between four cells a class stays between the lowest and the highest of its four values, so one whose highest is
    below another's lowest loses there.
    """
    lowest, highest = logits, logits
    for axis in (1, 2):
        if logits.shape[axis] > 1:
            cells = np.arange(logits.shape[axis] - 1)
            lowest = np.minimum(lowest.take(cells, axis), lowest.take(cells + 1, axis))
            highest = np.maximum(highest.take(cells, axis), highest.take(cells + 1, axis))
    found = (highest >= lowest.max(axis=0)).any(axis=(1, 2))
    return [int(label) for label in np.flatnonzero(found)] or [0]


def _by_bands(logits: Float[Tensor, "C h w"], axes: Sequence[_Axis]) -> UInt8[np.ndarray, "H W"]:
    """Row band by row band with torch, on the logits' device."""
    above, below, down = axes[0].neighbours(logits.device)
    left, right, across = axes[1].neighbours(logits.device)
    rows = max(1, _BAND_VALUES // (len(logits) * axes[1].length))
    labels = []
    for top in range(0, axes[0].length, rows):
        band = slice(top, top + rows)
        lines = torch.lerp(logits[:, above[band]], logits[:, below[band]], down[band, None])
        labels.append(torch.lerp(lines[:, :, left], lines[:, :, right], across).argmax(dim=0).to(torch.uint8))
    return torch.cat(labels).cpu().numpy()
