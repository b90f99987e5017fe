"""Frames to an MP4 file that browsers play."""

import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import Self, cast

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from mbvision.errors import ConfigError, VideoError
from mbvision.writing import temporary_of

_TICKS = 60_000
"""Times are kept to at least half of this part of a second; MPEG-4 part 2 allows no finer than 1/65535 s."""

# Constant quality: x264's scale, and the quantiser of MPEG-4 part 2 times 118 (FF_QP2LAMBDA). No B frames: they are
# decoded early, and at a variable rate the file's duration, which counts decoding, would end before the last frames.
_CODECS = {
    "libx264": {"crf": "20", "preset": "veryfast", "bf": "0"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(3 * 118)},
}
_BT601, _LIMITED = 6, 1  # in the code of ITU-T H.273, table 4: what cv2.COLOR_RGB2YUV_I420 computes
_ERRORS = (av.error.FFmpegError, OSError, ValueError)
_logger = logging.getLogger(__name__)


def check_output(source: Path, output: Path) -> None:
    """Raises ``ConfigError`` if writing ``output`` would overwrite ``source``, by whatever name."""
    same = output.exists() and source.exists() and output.samefile(source)
    if same or output.resolve() == source.resolve():
        raise ConfigError(f"output={output.parent} would overwrite {source}: name another folder")


class VideoWriter:
    """An H.264 file without sound, whole or not there: ``close`` gives it its name, an exception within ``with`` none.

    Every frame is shown from its own time on, so number of frames and duration are the source's, at a variable rate
    too. H.264 in the colours that browsers play has even sizes only: an odd last row or column is doubled, none is cut
    off. Where FFmpeg was built without x264 the file is MPEG-4 part 2, with a warning that browsers may not play it.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], rate: Fraction, pixel_aspect: Fraction = Fraction(1)
    ) -> None:
        """``size`` is ``(height, width)`` of the frames, ``rate`` frames per second.

        Raises ``VideoError`` if the file cannot be written.
        """
        self.path = path
        self.size = size
        self._partial = temporary_of(path)
        self._time_base, self._rate = _time_base(rate)
        self._last = -1
        codec = _codec()
        try:
            # "file:" keeps a name such as "http:x" a name
            self._container = av.open(f"file:{self._partial}", "w", format="mp4", options={"movflags": "+faststart"})
            self._stream = self._open_stream(codec, pixel_aspect)
            self._container.start_encoding()
        except _ERRORS as error:
            self._partial.unlink(missing_ok=True)
            raise VideoError(f"{path}: cannot be written as {codec} video of {size[1]}x{size[0]}: {error}") from error

    def _open_stream(self, codec: str, pixel_aspect: Fraction) -> av.VideoStream:
        stream = cast(av.VideoStream, self._container.add_stream(codec, rate=self._rate, options=_CODECS[codec]))
        stream.height, stream.width = (length + length % 2 for length in self.size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = self._time_base
        stream.codec_context.colorspace, stream.codec_context.color_range = _BT601, _LIMITED
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, image: UInt8[np.ndarray, "H W 3"], time_s: float) -> None:
        """Add an RGB frame that is shown from ``time_s`` on, at least one tick after the one before it.

        Raises ``VideoError`` if it cannot be written, and ``ValueError`` if it has another size.
        """
        if image.shape != (*self.size, 3):
            raise ValueError(f"a frame of shape {image.shape} in a video of {self.size}")
        padded = cv2.copyMakeBorder(image, 0, self.size[0] % 2, 0, self.size[1] % 2, cv2.BORDER_REPLICATE)
        planes = np.asarray(cv2.cvtColor(padded, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.colorspace, frame.color_range = _BT601, _LIMITED
        self._last = max(round(time_s / self._time_base), self._last + 1)
        frame.pts, frame.time_base = self._last, self._time_base
        frame.duration = round(1 / (self._rate * self._time_base))
        self._encode(frame)

    def close(self) -> None:
        """Finish the file and give it its name; without a single frame there is no file."""
        if self._last < 0:
            self.discard()
            return
        self._encode(None)
        try:
            self._container.close()
            os.replace(self._partial, self.path)
        except _ERRORS as error:
            self._fail(error)

    def discard(self) -> None:
        """Remove what was written."""
        try:
            self._container.close()
        except _ERRORS as error:
            _logger.debug("%s: %s", self._partial, error)
        self._partial.unlink(missing_ok=True)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except _ERRORS as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.discard()
        raise VideoError(f"{self.path}: cannot be written: {error}") from error


def _codec() -> str:
    try:
        av.Codec("libx264", "w")
    except ValueError:  # its UnknownCodecError
        _logger.warning("this FFmpeg has no x264: videos are written as MPEG-4 part 2, which browsers may not play")
        return "mpeg4"
    return "libx264"


def _time_base(rate: Fraction) -> tuple[Fraction, Fraction]:
    """Seconds in a tick, and the rate, so that a frame at a constant rate lasts a whole number of ticks."""
    if not 0 < rate <= 1000:
        raise ValueError(f"rate={rate}: must be above 0 and at most 1000 frames per second")
    rate = 1 / (1 / rate).limit_denominator(_TICKS)
    return Fraction(1, rate.numerator * (_TICKS // rate.numerator)), rate
