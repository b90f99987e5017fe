"""Upright RGB frames, one at a time, whatever they come from: image files and cameras here.

Video files are in `mbvision.data.video`.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from jaxtyping import UInt8

from mbvision.data.images import read_image
from mbvision.errors import ImageError, VideoError

USUAL_RATE = Fraction(25)
"""Frames per second where nothing sensible tells it."""

_logger = logging.getLogger(__name__)

Picture = UInt8[np.ndarray, "H W 3"]
_TICK_S = 1e-6
"""How far a frame is put behind the one before it where both have the same time stamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrame:
    """One frame: its number from 0, its time from the first frame in seconds, and its RGB image as it is shown.

    ``name`` is the file or the camera that it comes from.
    """

    index: int
    time_s: float
    image: UInt8[np.ndarray, "H W 3"]
    name: str


class FrameSource(ABC):
    """Frames of one size ``(height, width)``, to be iterated once, in constant memory; a context manager.

    ``rate`` is in frames per second (of files with a variable rate the average; the frames' times are exact).
    ``pixel_aspect`` is the width of a pixel over its height as shown. ``frames_declared`` is a promise, or None. After
    the iteration ``frames_read`` and ``damage`` tell what came of it: ``damage`` is None, or one line on what is
    missing. ``frame_name`` is the file or camera of the frame that comes. A frame of another size than the first is
    scaled to it, as players do, with one warning.
    """

    def __init__(self, *, name: str, size: tuple[int, int], rate: Fraction, frames_declared: int | None) -> None:
        self.name = name
        self.frame_name = name
        self.size = size
        self.rate = rate
        self.frames_declared = frames_declared
        self.frames_read = 0
        self.damage: str | None = None
        self.pixel_aspect = Fraction(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        height, width = self.size
        warned, clock = False, _Clock(float(1 / self.rate))
        for stamp, image in self._pictures():
            if image.shape[:2] != self.size:
                if not warned:
                    here = f"{image.shape[1]}x{image.shape[0]}"
                    _logger.warning("%s: frames of %s are scaled to %dx%d", self.name, here, width, height)
                    warned = True
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            self.frames_read += 1
            time_s = clock.time_s(stamp)
            yield VideoFrame(index=self.frames_read - 1, time_s=time_s, image=image, name=self.frame_name)

    @property
    def summary(self) -> str:
        """How much was read, of how much, and why not all."""
        of = f" of {self.frames_declared}" if (self.frames_declared or 0) >= max(self.frames_read, 1) else ""
        return f"{self.name}: {self.frames_read}{of} frames" + (f"; {self.damage}" if self.damage else "")

    @abstractmethod
    def _pictures(self) -> Iterator[tuple[float | None, Picture]]:
        """Time in seconds, where known, and picture of each frame; sets ``damage`` when it ends early."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file or the device."""


class _Clock:
    """Times that rise from frame to frame: the time stamps, wherever these rise.

    Frames without a stamp, as of raw streams, follow at the average rate. A stamp that is not after the one before it
    moves its own frame alone; where the next ones rise from there, as in joined recordings, a new series has begun.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._gap = step  # between the last two stamps that rose
        self._last: float | None = None
        self._stamp: float | None = None
        self._offset, self._behind = 0.0, False

    def time_s(self, stamp: float | None) -> float:
        """The time of the next frame, whose stamp is given in seconds, None if it has none."""
        last, before = self._last, self._stamp
        if last is None:
            time_s = stamp or 0.0
        elif stamp is None:
            time_s = last + self._step
        else:
            if self._behind and before is not None and before < stamp <= last - self._offset:
                self._offset = last - before
            time_s = stamp + self._offset
            self._behind = time_s <= last
            if self._behind:
                time_s = last + (_TICK_S if stamp == before else self._gap / 2)
            elif before is not None and stamp > before:
                self._gap = stamp - before
        self._last, self._stamp = time_s, stamp
        return time_s


class PictureSequence(FrameSource):
    """Image files as frames of a video, in the given order; those that cannot be read are left out with a warning."""

    def __init__(self, paths: Sequence[Path], *, rate: Fraction = USUAL_RATE) -> None:
        """Raises ``ImageError`` if not one of the images can be read."""
        self._paths = list(paths)
        self._skipped = 0
        super().__init__(
            name=f"{len(self._paths)} images", size=self._first_size(), rate=rate, frames_declared=len(self._paths)
        )

    def close(self) -> None:
        """Nothing is open between two images."""

    def _first_size(self) -> tuple[int, int]:
        for path in self._paths:
            try:
                image = read_image(path)
            except ImageError:
                continue
            return image.shape[0], image.shape[1]
        raise ImageError(f"none of {len(self._paths)} images can be read; name others")

    def _pictures(self) -> Iterator[tuple[float | None, Picture]]:
        for path in self._paths:
            try:
                image = read_image(path)
            except ImageError as error:
                _logger.warning("skipped: %s", error)
                self._skipped += 1
                self.damage = f"{self._skipped} of {len(self._paths)} images cannot be read"
                continue
            self.frame_name = str(path)
            yield None, image


class Camera(FrameSource):
    """The camera of that number, from 0; its frames' times are when they came. Ends only when the camera stops."""

    def __init__(self, number: int) -> None:
        """Raises ``VideoError`` if there is no such camera, or it gives no picture."""
        self._capture = cv2.VideoCapture(number)
        found, self._next = self._capture.read()
        if not found:
            self._capture.release()
            raise VideoError(f"source=camera:{number}: there is no such camera, or it gives no picture")
        self._start = time.monotonic()
        super().__init__(
            name=f"camera:{number}",
            size=(self._next.shape[0], self._next.shape[1]),
            rate=sensible_rate(self._capture.get(cv2.CAP_PROP_FPS)),
            frames_declared=None,
        )

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()

    def _pictures(self) -> Iterator[tuple[float | None, Picture]]:
        found, picture, now = True, self._next, self._start
        while found:
            yield now - self._start, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            found, picture = self._capture.read()
            now = time.monotonic()
        self.damage = "the camera stopped"


def sensible_rate(rate: Fraction | float | None) -> Fraction:
    """A rate that a header or a driver told, or 25 frames per second where it is none of 0 to 1000."""
    return Fraction(rate).limit_denominator(100_000) if rate and 0 < rate <= 1000 else USUAL_RATE
