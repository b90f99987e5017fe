"""The one door for video files, which become upright RGB frames, one at a time.

A file is read through FFmpeg, which gets an open file without a name and nothing else: no URL, protocol, playlist or
pattern is followed, and the format is told by content. Sound is not read. What a header says of the number of frames
is only a promise; `FrameSource.frames_read` is what came.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.stream import Disposition

from mbvision.data.frames import FrameSource, Picture, sensible_rate
from mbvision.data.images import MAX_PIXELS
from mbvision.errors import VideoError
from mbvision.files import check_file

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".ts", ".m2ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp"),
    *(".y4m", ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".obu", ".mxf", ".dv", ".asf", ".vob", ".m2v"),
)
"""What is taken for a video by its name, in lower case; `open_video` itself goes by content."""

# The demuxers of FFmpeg that read one file and open no other; playlists (hls, dash, concat, ...) are not among them.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,obu,flv,asf,ogg,mxf,dv,yuv4mpegpipe"
_ERRORS = (av.error.FFmpegError, OSError, ValueError)
# Titles that are not UTF-8 are no reason to refuse a video: PyAV 19 never raises for them and lost the argument.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_video(path: Path, *, max_pixels: int = MAX_PIXELS) -> "VideoFile":
    """The video of a regular file, whose first frame is decoded at once; frames above ``max_pixels`` are refused.

    Raises ``VideoError`` for everything that is no video with at least one readable frame.
    """
    check_file(path, error=VideoError, what="video", remedy="source= takes a file, a folder, a glob or camera:0")
    try:
        # From the descriptor, the file object has no name: FFmpeg takes a suffix for a hint, and warns of a mismatch.
        file = open(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")  # noqa: SIM115 (VideoFile closes it)
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        container = av.open(
            file,
            "r",
            options={"max_pixels": str(max_pixels)},
            container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "none"},
            **_METADATA,
        )
    except _ERRORS as error:
        file.close()
        raise VideoError(
            f"{path}: not a video, or damaged at its start; MP4, MKV, WebM and AVI are sure to work"
        ) from error
    try:
        return VideoFile(path=path, container=container, max_pixels=max_pixels, file=file)
    except BaseException:
        container.close()
        file.close()
        raise


class VideoFile(FrameSource):
    """A video file; see `open_video`. Turned upright by its display matrix.

    Frames keep the file's pixels, square or not. Damaged packets and frames are left out and counted in ``damage``;
    the frames after them keep their times, and may show traces of the damage up to the next key frame.
    """

    def __init__(self, *, path: Path, container: av.container.InputContainer, max_pixels: int, file: IO[bytes]) -> None:
        self._container, self._file, self._max_pixels = container, file, max_pixels
        self._stream = _video_stream(container, path)
        if fault := self._too_large(self._stream.codec_context):
            raise VideoError(f"{path}: {fault}; scale the video down")
        self._stream.codec_context.options = {"max_pixels": str(max_pixels)}
        self._packets = 0
        self._failure = ""
        self._left_out = 0
        self._gap_s: float | None = None
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise VideoError(f"{path}: none of its frames can be read ({self._failure or 'it holds none'})")
        self._first = first
        self._turn = _turn(first)
        height, width = first.height, first.width
        rate = sensible_rate(_fraction(self._stream.average_rate) or _fraction(self._stream.guessed_rate))
        self.duration_declared = _declared_duration(container, self._stream)
        count = self._stream.frames or round((self.duration_declared or 0) * rate)
        super().__init__(
            name=str(path),
            size=(width, height) if self._turn[0] else (height, width),
            rate=rate,
            frames_declared=count or None,
        )
        aspect = _fraction(self._stream.sample_aspect_ratio) or Fraction(1)
        self.pixel_aspect = 1 / aspect if self._turn[0] else aspect

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def _pictures(self) -> Iterator[tuple[float | None, Picture]]:
        start, time_s, too_large = self._first.time or 0.0, 0.0, ""
        for frame in itertools.chain([self._first], self._decoded):
            if too_large := self._too_large(frame):
                break
            if self._left_out and self._gap_s is None:
                self._gap_s = time_s
            time_s = time_s if frame.time is None else frame.time - start
            yield None if frame.time is None else time_s, _upright(frame, self._turn)
        found = (self._gap(time_s), too_large or self._shortfall(time_s))
        self.damage = "; ".join(text for text in found if text) or None

    def _decode(self) -> Iterator[av.VideoFrame]:
        """The frames that the decoder gives; what cannot be read between them is counted."""
        started = False
        for packet in self._demuxed():
            self._packets += packet is not None and packet.size > 0
            try:
                frames = self._stream.decode(packet)
            except _ERRORS as error:
                self._note(_reason(error), started)
                continue
            for frame in frames:
                if frame.is_corrupt:  # the decoder has filled it up
                    self._note("a frame is damaged", started)
                    continue
                started = True
                yield frame

    def _demuxed(self) -> "Iterator[av.Packet[av.VideoStream] | None]":
        """All packets, and one without content that asks the decoder for the frames that are left.

        After an error in the structure of the file, reading goes on for as long as packets come.
        """
        came = True
        while came:
            came = False
            try:
                for packet in self._container.demux(self._stream):
                    came = True
                    yield packet
                return
            except _ERRORS as error:
                self._note(_reason(error), True)
        yield None

    def _note(self, reason: str, started: bool) -> None:
        """A recording may begin with packets whose reference was never there: these are not damaged."""
        if not self._left_out:
            self._failure = reason
        self._left_out += started

    def _gap(self, last_s: float) -> str:
        if not self._left_out:
            return ""
        what = "damaged part is" if self._left_out == 1 else "damaged parts are"
        return f"{self._left_out} {what} left out, the first after {self._gap_s or last_s:.2f} s ({self._failure})"

    def _too_large(self, of: av.VideoFrame | av.VideoCodecContext) -> str:
        above = of.width * of.height > self._max_pixels
        return f"{of.width}x{of.height} is above the limit of {self._max_pixels} pixels" if above else ""

    def _shortfall(self, last_s: float) -> str | None:
        """Files cut between two packets end without an error; small gaps are how some writers count."""
        promised = self._stream.frames
        if promised - self._packets > max(1, promised // 50):
            return f"it is cut short: its header promises {promised} frames"
        duration = self.duration_declared or 0.0
        # Of several streams the duration is that of the longest, and sound may go on for a while.
        alone = self._stream.duration is not None or len(self._container.streams) == 1
        gap = max(float(2 / self.rate), duration / 50) if alone else max(1.0, duration / 10)
        if duration - last_s - float(1 / self.rate) > gap:
            return f"it is cut short: it ends at {last_s:.1f} s, its header promises {duration:.1f} s"
        return None


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first stream of pictures that move; the cover of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise VideoError(f"{path}: there is no decoder for its pictures; save it as H.264")
            return stream
    raise VideoError(f"{path}: holds no pictures, only {', '.join(s.type for s in container.streams) or 'nothing'}")


def _declared_duration(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration is not None and (time_base := _fraction(stream.time_base)):
        return float(stream.duration * time_base)
    return None if container.duration is None else container.duration / av.time_base


def _fraction(value: Any) -> Fraction | None:
    """What PyAV gives for a rational number, None where the file has none: PyAV 18 gives None, 19 its own zero."""
    return Fraction(value.numerator, value.denominator) if value else None


def _turn(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How to stand a frame upright: swap rows and columns, then mirror up-down, then left-right.

    The display matrix (ISO/IEC 14496-12, 6.2.2) shows the point (x, y) at (a x + c y, b x + d y); angles between
    quarter turns go to the nearest.
    """
    side_data = cast("Mapping[str, Buffer]", frame.side_data).get("DISPLAYMATRIX")
    if side_data is None:
        return False, False, False
    (a, b), (c, d) = np.frombuffer(bytes(side_data), dtype=np.int32).reshape(3, 3)[:2, :2].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def _upright(frame: av.VideoFrame, turn: tuple[bool, bool, bool]) -> Picture:
    image = cast(Picture, frame.to_ndarray(format="rgb24", threads=1))
    swap, up_down, left_right = turn
    if swap:
        image = cv2.transpose(image)
    if up_down or left_right:
        image = cv2.flip(image, -1 if up_down and left_right else int(left_right))
    return image


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
