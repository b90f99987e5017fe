"""Frames from pictures and cameras, and a model over any frames."""

import logging
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbvision.data import frames as frames_module
from mbvision.data.frames import Camera, FrameSource, PictureSequence, VideoFrame
from mbvision.errors import ImageError, VideoError
from mbvision.inference.video import VideoRun


def picture(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Another colour for each number, brighter to the right."""
    image = np.full((*size, 3), (40, 90 + number, 200), dtype=np.uint8)
    image[:, :, 0] += np.arange(size[1], dtype=np.uint8)
    return image


# ---- other sources


def test_pictures_are_frames_of_the_first_ones_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, size in enumerate([(48, 64), (24, 32), (48, 64)]):
        (tmp_path / f"{number}.png").write_bytes(cv2.imencode(".png", picture(number, size)[..., ::-1])[1].tobytes())
    (tmp_path / "1.5.png").write_text("no picture")
    with caplog.at_level(logging.WARNING), PictureSequence(sorted(tmp_path.iterdir()), rate=Fraction(2)) as pictures:
        assert (pictures.size, pictures.frames_declared) == ((48, 64), 4)
        frames = list(pictures)
        assert pictures.damage == "1 of 4 images cannot be read"
    assert [frame.time_s for frame in frames] == [0, 0.5, 1.0]
    assert np.array_equal(frames[2].image, picture(2)) and frames[1].image.shape == (48, 64, 3)
    assert len(caplog.records) == 2


def test_no_readable_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none of 1 images"):
        PictureSequence([tmp_path / "none.png"])


class FakeCapture:
    """Three pictures and no more."""

    def __init__(self, number: int) -> None:
        self.left = 3 if number == 0 else 0
        self.released = False

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, picture(0)[..., ::-1]) if self.left >= 0 else (False, None)

    def get(self, _: int) -> float:
        return 30.0

    def release(self) -> None:
        self.released = True


def test_camera_gives_rgb_frames_with_the_time_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module.cv2, "VideoCapture", FakeCapture)
    with Camera(0) as camera:
        assert (camera.size, camera.rate, camera.frames_declared, camera.name) == ((48, 64), 30, None, "camera:0")
        frames = list(camera)
        assert camera.damage == "the camera stopped"
    assert len(frames) == 3 and np.array_equal(frames[0].image, picture(0))
    assert frames[0].time_s == 0 < frames[1].time_s < frames[2].time_s
    with pytest.raises(VideoError, match="camera:7"):
        Camera(7)


# ---- times


class Stamped(FrameSource):
    """Frames with these time stamps, at a nominal 25 frames a second."""

    def __init__(self, stamps: Sequence[float | None]) -> None:
        self.stamps = stamps
        super().__init__(name="stamped", size=(2, 2), rate=Fraction(25), frames_declared=None)

    def _pictures(self) -> Iterator[tuple[float | None, np.ndarray]]:
        for stamp in self.stamps:
            yield stamp, np.zeros((2, 2, 3), dtype=np.uint8)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 0.04, 0.5, 0.51, 3], [0, 0.04, 0.5, 0.51, 3]),
        ([None, None, None], [0, 0.04, 0.08]),
        ([0, 0.001, 0.001, 0.002, 0.002, 0.003], [0, 0.001, 0.001, 0.002, 0.002, 0.003]),  # doubled, below the rate
        ([0, 0, 0, 0.001, 0.001, 0.001, 0.002], [0, 0, 0, 0.001, 0.001, 0.001, 0.002]),
        ([0, 0.04, 0.03, 0.08, 0.12], [0, 0.04, 0.06, 0.08, 0.12]),  # one that is wrong
        ([0, 0.04, 0.08, 0, 0.04, 0.08], [0, 0.04, 0.08, 0.10, 0.14, 0.18]),  # joined recordings
        ([0, 0.5, 0, 0.5, 1, 0, 0.5], [0, 0.5, 0.75, 1.25, 1.75, 2, 2.5]),
        ([0, None, 0.1, None, 0.2], [0, 0.04, 0.1, 0.14, 0.2]),
    ],
)
def test_times_are_the_stamps_wherever_these_rise(stamps: list[float | None], times: list[float]) -> None:
    found = [frame.time_s for frame in Stamped(stamps)]
    assert found == pytest.approx(times, abs=1e-5)
    assert (np.diff(found) > 0).all()


@given(st.lists(st.none() | st.integers(0, 50).map(lambda n: n / 100), min_size=1, max_size=40))
def test_times_always_rise_and_never_run_far_from_the_stamps(stamps: list[float | None]) -> None:
    found = [frame.time_s for frame in Stamped(stamps)]
    assert found[0] == (stamps[0] or 0) and (np.diff(found) > 0).all()
    assert (np.diff(found) <= 0.51).all()


# ---- a model over a video


class Numbers(FrameSource):
    """Frames whose first pixel is their number."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name="numbers", size=(2, 2), rate=Fraction(25), frames_declared=count)

    def _pictures(self):  # type: ignore[no-untyped-def]  # a generator of whatever the test needs
        for number in range(self.count):
            yield None, np.full((2, 2, 3), number, dtype=np.uint8)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("batch", [1, 4])
def test_run_gives_every_frame_its_result_in_order(batch: int) -> None:
    sizes = []

    def step(images: list[np.ndarray]) -> list[int]:
        sizes.append(len(images))
        return [int(image[0, 0, 0]) for image in images]

    with VideoRun(Numbers(10), step, batch=batch) as run:
        found = [(frame.index, result) for frame, result in run]
    assert found == [(n, n) for n in range(10)]
    assert sizes == ([1] * 10 if batch == 1 else [4, 4, 2])
    assert run.frames == 10 and run.fps > 0 and run.mean_fps > 0 and run.step_ms > 0


def test_run_left_early_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with VideoRun(Numbers(200), lambda images: [None for _ in images]) as run:
        for item in run:
            if item.frame.index == 3:
                break
    assert set(threading.enumerate()) <= before


def test_run_of_nothing_is_empty() -> None:
    nothing: list[VideoFrame] = []
    with VideoRun(nothing, lambda images: images) as run:
        assert list(run) == []
    assert run.fps == run.mean_fps == run.step_ms == 0
