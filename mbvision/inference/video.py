"""A video through a model: frames in order, each with its result, and how fast that went."""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, Self, TypeVar

import numpy as np
from jaxtyping import UInt8

from mbvision import stopping
from mbvision.data import video
from mbvision.data.frames import FrameSource, VideoFrame
from mbvision.inference.overlap import overlapped

_logger = logging.getLogger(__name__)

R = TypeVar("R")
_RECENT = 30
"""Frames over which the momentary rate is taken."""


class FramePictures:
    """The RGB pictures of a source of frames, to be iterated once; the source is closed behind the last one.

    What ended it early is a warning then, and stays in ``damage``; so do the numbers of frames in ``source``.
    """

    def __init__(self, source: FrameSource) -> None:
        self.source = source

    @property
    def damage(self) -> str | None:
        """Why the frames ended early, in one line; None where they did not, or not yet."""
        return self.source.damage

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        with self.source:
            for frame in self.source:
                yield frame.image
        if self.source.damage:
            _logger.warning("%s", self.source.summary)


def open_video(path: str | Path) -> FramePictures:
    """The upright pictures of a video file, the first of which is decoded at once.

    Raises ``VideoError`` for everything that is no video with at least one readable frame. For times and rates:
    ``mbvision.data.video.open_video``.
    """
    return FramePictures(video.open_video(Path(str(path))))


class FrameResult(NamedTuple, Generic[R]):
    """A frame, and what the model says of it."""

    frame: VideoFrame
    result: R


class VideoRun(Generic[R]):
    """Frames and their results, in order, to be iterated once; decoding, ``step`` and the caller work at the same time.

    ``step`` gets up to ``batch`` pictures, always in order and in one thread (it may keep state from frame to frame),
    and gives as many results. A context manager: when it is left, early or not, no thread of it runs any more. What
    ``source`` or ``step`` raise is raised in the iteration, after the results before it. It ends when `stopping` has
    noted a signal and no result is there.
    """

    def __init__(
        self,
        source: Iterable[VideoFrame],
        step: Callable[[list[UInt8[np.ndarray, "H W 3"]]], list[R]],
        *,
        batch: int = 1,
        depth: int = 4,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch={batch}: must be at least 1")
        self._step = step
        self._running = self._run(source, batch, depth)
        self._times: deque[float] = deque(maxlen=_RECENT + 1)
        self._start = 0.0
        self._in_step = 0.0
        self.frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def __iter__(self) -> Iterator[FrameResult[R]]:
        return self._running

    @property
    def fps(self) -> float:
        """Frames per second over the last 30, the caller's work included; 0 before the second frame."""
        return (len(self._times) - 1) / (self._times[-1] - self._times[0]) if len(self._times) > 1 else 0.0

    @property
    def mean_fps(self) -> float:
        """Frames per second since the first one was asked for, everything included."""
        return self.frames / (self._times[-1] - self._start) if self.frames else 0.0

    @property
    def step_ms(self) -> float:
        """Milliseconds that ``step`` took for a frame, on average: the model without decoding and writing."""
        return 1000 * self._in_step / self.frames if self.frames else 0.0

    def _run(self, source: Iterable[VideoFrame], batch: int, depth: int) -> Generator[FrameResult[R], None, None]:
        self._start = time.perf_counter()
        batches = _batches(source, batch)
        results = overlapped(batches, self._timed, depth=depth, stopped=lambda: stopping.requested() != 0)
        try:
            for frames, found, seconds in results:
                self._in_step += seconds
                for frame, result in zip(frames, found, strict=True):
                    self.frames += 1
                    self._times.append(time.perf_counter())
                    yield FrameResult(frame, result)
        finally:
            results.close()

    def _timed(self, frames: list[VideoFrame]) -> tuple[list[VideoFrame], list[R], float]:
        start = time.perf_counter()
        found = self._step([frame.image for frame in frames])
        return frames, found, time.perf_counter() - start


def _batches(source: Iterable[VideoFrame], size: int) -> Iterator[list[VideoFrame]]:
    batch: list[VideoFrame] = []
    for frame in source:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
