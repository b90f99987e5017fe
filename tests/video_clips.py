"""Clips made with FFmpeg directly, and how OpenCV reads them, for the tests of videos."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def picture(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A slope of colours that tells up from down and left from right, and darkens with the number."""
    y, x = np.mgrid[: size[0], : size[1]]
    slope = np.stack([40 + 180 * x // size[1], 40 + 180 * y // size[0], np.full(size, 90)], axis=2)
    return (slope - 2 * number).clip(0, 255).astype(np.uint8)


def encode(
    path: Path,
    count: int = 20,
    *,
    size: tuple[int, int] = (48, 64),
    format: str = "mp4",
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    matrix: Sequence[int] | None = None,
    colorspace: int | None = None,
    title: str = "",
) -> Path:
    """A clip from FFmpeg itself, at 25 frames per second."""
    with av.open(str(path), "w", format=format, options={"movflags": "+faststart"} if format == "mp4" else {}) as out:
        out.metadata.update({"title": title} if title else {})
        stream = out.add_stream(codec, rate=25, options={"crf": "12", "bf": "0"} if codec == "libx264" else {})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, 25)
        if colorspace is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, 1
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, size))
            if colorspace is not None:
                frame = frame.reformat(format="yuv420p", dst_colorspace=colorspace, dst_color_range=1)
            frame.pts = round(1000 * times[number]) if times else number
            frame.time_base = stream.codec_context.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return cv2.PSNR(one, np.ascontiguousarray(other))


def opencv_frames(path: Path, limit: int = 1000) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(path)), []
    while len(found) < limit and (read := capture.read())[0]:
        found.append(read[1][..., ::-1])
    capture.release()
    return found


# ---- what is read
