"""What is written is read back with OpenCV, which knows nothing of us, and must be what went in."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mbvision.errors import ConfigError, VideoError
from mbvision.inference import video_writer
from mbvision.inference.video_writer import VideoWriter, check_output


def picture(height: int, width: int, number: int = 0) -> np.ndarray:
    """Smooth colours that move with the number: what codecs are good at, so that a colour fault stands out."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    channels = [np.sin(3 * x + 0.1 * number), np.cos(4 * y), np.sin(2 * (x + y) + 1)]
    return np.stack([(110 + 90 * channel).astype(np.uint8) for channel in channels], axis=2)


def write(path: Path, times: list[float], size: tuple[int, int] = (48, 64), rate: Fraction = Fraction(25)) -> None:
    with VideoWriter(path, size=size, rate=rate) as writer:
        for number, time_s in enumerate(times):
            writer.write(picture(*size, number), time_s)


def read_with_opencv(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    rate, frames = capture.get(cv2.CAP_PROP_FPS), []
    while True:
        found, frame = capture.read()
        if not found:
            capture.release()
            return frames, rate
        frames.append(frame[..., ::-1])


def times_of(path: Path) -> tuple[list[Fraction], Fraction]:
    """Times of the frames as FFmpeg tells them, and the duration of the stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None and stream.duration is not None
        return [frame.pts * stream.time_base for frame in container.decode(stream)], stream.duration * stream.time_base


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_opencv_reads_back_every_frame_in_its_colours(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", [n / 25 for n in range(30)])
    frames, rate = read_with_opencv(tmp_path / "out.mp4")
    assert len(frames) == 30 and rate == 25
    assert min(psnr(frame, picture(48, 64, n)) for n, frame in enumerate(frames)) > 36
    assert (
        abs(np.mean(frames[0].astype(float) - picture(48, 64), axis=(0, 1))).max() < 3
    )  # a wrong matrix is off by 10 and more


def test_file_is_h264_that_starts_before_it_is_loaded_and_tells_its_colours(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", [0.0, 0.04])
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat") and b"avc1" in content
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 6, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (1, 1)])
def test_odd_sizes_get_their_last_row_and_column_twice(tmp_path: Path, size: tuple[int, int]) -> None:
    write(tmp_path / "out.mp4", [0.0], size=size)
    frames, _ = read_with_opencv(tmp_path / "out.mp4")
    even = tuple(length + length % 2 for length in size)
    assert frames[0].shape == (*even, 3)
    expected = np.pad(picture(*size), [(0, size[0] % 2), (0, size[1] % 2), (0, 0)], mode="edge")
    assert psnr(frames[0], expected) > 36


@pytest.mark.parametrize("rate", ["25", "30000/1001", "24000/1001", "179/6", "3", "1/7", "59.94", "1000000/33333"])
def test_constant_rates_keep_their_rate_and_duration(tmp_path: Path, rate: str) -> None:
    fps = Fraction(rate)
    write(tmp_path / "out.mp4", [float(n / fps) for n in range(12)], rate=fps)
    times, duration = times_of(tmp_path / "out.mp4")
    assert times == pytest.approx([float(n / fps) for n in range(12)], abs=1e-4)
    assert float(duration) == pytest.approx(float(12 / fps), abs=1e-3)
    assert read_with_opencv(tmp_path / "out.mp4")[1] == pytest.approx(float(fps), rel=1e-4)


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    moments = [0.0, 0.04, 0.1, 0.5, 0.52, 2.0, 2.04]
    write(tmp_path / "out.mp4", moments)
    times, duration = times_of(tmp_path / "out.mp4")
    assert [float(t) for t in times] == pytest.approx(moments, abs=1e-4)
    assert float(duration) == pytest.approx(2.08, abs=1e-3)


def test_frames_at_the_same_moment_are_all_kept_in_order(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", [0.0, 0.0, 0.0, 0.04, 0.02])
    assert len(read_with_opencv(tmp_path / "out.mp4")[0]) == 5


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", size=(48, 64), rate=Fraction(25), pixel_aspect=Fraction(16, 11)) as writer:
        writer.write(picture(48, 64), 0.0)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


def test_exception_leaves_no_file_and_an_older_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("older")
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(tmp_path / "out.mp4", size=(48, 64), rate=Fraction(25)) as writer,
    ):
        writer.write(picture(48, 64), 0.0)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_text() == "older"


def test_video_without_frames_is_no_file(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_written_is_told_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"missing/out\.mp4: cannot be written"):
        VideoWriter(tmp_path / "missing" / "out.mp4", size=(48, 64), rate=Fraction(25))


def test_size_that_the_codec_cannot_do_is_told_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"out\.mp4: cannot be written as libx264 video of 40000x40000"):
        VideoWriter(tmp_path / "out.mp4", size=(40000, 40000), rate=Fraction(25))
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", size=(48, 64), rate=Fraction(25))
    writer.write(picture(48, 64), 0.0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video_writer.os, "replace", full)
    with pytest.raises(VideoError, match=r"out\.mp4: cannot be written: .*No space left"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"\(48, 32, 3\)"),
        VideoWriter(tmp_path / "out.mp4", size=(48, 64), rate=Fraction(25)) as writer,
    ):
        writer.write(picture(48, 32), 0.0)


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(-5), Fraction(10**9)])
def test_rates_without_sense_are_refused(tmp_path: Path, rate: Fraction) -> None:
    with pytest.raises(ValueError, match="frames per second"):
        VideoWriter(tmp_path / "out.mp4", size=(48, 64), rate=rate)


@pytest.mark.parametrize("name", ["http:x.mp4", "frame%03d.mp4", "ünï 'q' [1].mp4", "-y.mp4", "a,b;c=d.mp4"])
def test_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(name), [0.0])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_x264_it_is_mpeg4_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(video_writer.av, "Codec", unknown)
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "out.mp4", [0.0, 0.04, 0.5])
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["this FFmpeg has no x264"]
    frames, _ = read_with_opencv(tmp_path / "out.mp4")
    assert len(frames) == 3 and psnr(frames[1], picture(48, 64, 1)) > 34
    assert [float(t) for t in times_of(tmp_path / "out.mp4")[0]] == pytest.approx([0, 0.04, 0.5], abs=1e-4)


def test_output_over_its_source_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    for output in (source, tmp_path / "link.mp4", tmp_path / "hard.mp4", tmp_path / "." / "in.mp4"):
        with pytest.raises(ConfigError, match="would overwrite"):
            check_output(source, output)
    check_output(source, tmp_path / "out.mp4")
