"""What moves, by its content: animated images (GIF, WebP, PNG, AVIF) as frames of a video, beside video files."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

from mbvision.data import video
from mbvision.data.frames import FrameSource, Picture, sensible_rate
from mbvision.data.image_kinds import HEAD_BYTES, kind_of
from mbvision.data.images import MAX_PIXELS, decode_image, open_checked
from mbvision.errors import ImageError, VideoError

_SHORTEST_MS, _USUAL_MS = 10, 100
"""Frames of 10 ms and less are shown for 100 ms, as by all browsers: old writers left 0 there."""


def is_moving(path: Path) -> bool:
    """Whether a file is a video or an animated image; what is neither, nor an image, goes by its suffix."""
    try:
        return _frame_count(path) > 1
    except ImageError:
        moving = path.suffix.lower() in video.SUFFIXES
    if not path.is_file() or _is_other_image(path):
        return moving
    try:
        video.open_video(path).close()
    except VideoError:
        return moving
    return True


def open_moving(path: Path) -> FrameSource:
    """The frames of a video file or an animated image. Raises ``VideoError`` for everything else."""
    try:
        animated = _frame_count(path) > 1
    except ImageError:
        animated = False
    return Animation(path) if animated else video.open_video(path)


def page_count(path: Path) -> int:
    """How many images a TIFF holds, of which the first is read; 1 for every other file."""
    try:
        with open_checked(path, None, None) as image:
            return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
    except (ImageError, OSError, ValueError, SyntaxError):
        return 1  # what is wrong with it is said when it is read


def _frame_count(path: Path) -> int:
    """The frames of an animated image; 1 for an image that is not, also where it has pages or previews."""
    with open_checked(path, None, None) as image:
        if image.format in ("TIFF", "MPO", "JPEG", "BMP"):
            return 1
        try:
            return int(getattr(image, "n_frames", 1))
        except Exception:  # Pillow's readers raise a dozen kinds; what is wrong is said when the frame is read
            return 1


def _is_other_image(path: Path) -> bool:
    """Whether it is an image of a kind that is not read: FFmpeg takes tiles of HEIC for a video."""
    with path.open("rb") as file:
        return kind_of(file.read(HEAD_BYTES)) is not None


class Animation(FrameSource):
    """The frames of an animated image, each as it is shown; transparency is dropped, as of images."""

    def __init__(self, path: Path) -> None:
        """Raises ``VideoError`` if its first frame cannot be read."""
        with ExitStack() as stack:
            try:
                self._image = stack.enter_context(open_checked(path, None, MAX_PIXELS))
                self._first = self._frame(0, str(path))
            except (ImageError, EOFError) as error:
                raise VideoError(str(error)) from error
            self._stack = stack.pop_all()
        super().__init__(
            name=str(path),
            size=(self._first.shape[0], self._first.shape[1]),
            rate=sensible_rate(Fraction(1000) / Fraction(self._shown_ms()).limit_denominator(1000)),
            frames_declared=int(getattr(self._image, "n_frames", 1)),
        )

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _pictures(self) -> Iterator[tuple[float | None, Picture]]:
        time_ms, frames = 0.0, self.frames_declared or 1
        for number in range(frames):
            try:
                picture = self._frame(number, self.name) if number else self._first
            except (ImageError, EOFError) as error:
                self.damage = f"it is cut short or damaged: frame {number + 1} of {frames} cannot be read ({error})"
                return
            yield time_ms / 1000, picture
            time_ms += self._shown_ms()

    def _frame(self, number: int, name: str) -> Picture:
        try:
            self._image.seek(number)
            frame = self._image.copy()
        except Exception as error:  # Pillow's decoders raise a dozen kinds
            raise ImageError(f"{name}: damaged: {error}") from error
        return decode_image(frame, name=name)

    def _shown_ms(self) -> float:
        """How long the frame that was read last is shown."""
        duration = self._image.info.get("duration") or 0
        return float(duration) if duration > _SHORTEST_MS else float(_USUAL_MS)
