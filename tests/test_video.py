"""Videos made with FFmpeg and OpenCV directly are read through our door."""

import itertools
import logging
import os
import shutil
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mbvision.data.video import open_video
from mbvision.errors import VideoError
from mbvision.inference.video_writer import VideoWriter
from tests.video_clips import encode, opencv_frames, picture, psnr


@pytest.mark.parametrize(
    ("format", "codec"),
    [("mp4", "libx264"), ("matroska", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4"), ("mpegts", "libx264")],
)
def test_frames_come_with_number_time_and_colours_whatever_the_suffix(tmp_path: Path, format: str, codec: str) -> None:
    path = encode(tmp_path / "clip.jpg", format=format, codec=codec)
    with open_video(path) as video:
        assert (video.size, video.rate, video.damage) == ((48, 64), 25, None)
        frames = list(video)
        assert video.frames_read == 20 and video.damage is None
        assert video.frames_declared == 20
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 25 for n in range(20)], abs=0.002)
    assert min(psnr(frame.image, picture(n)) for n, frame in enumerate(frames)) > 24  # swapped channels: below 15
    assert all(f.image.dtype == np.uint8 and f.image.flags.c_contiguous and f.image.flags.writeable for f in frames)


def test_clip_of_opencv_is_read_as_opencv_reads_it(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(12):
        writer.write(np.ascontiguousarray(picture(number)[..., ::-1]))
    writer.release()
    with open_video(tmp_path / "clip.mp4") as video:
        assert (video.rate, video.frames_declared, video.duration_declared) == (10, 12, pytest.approx(1.2))
        frames = [frame.image for frame in video]
    expected = opencv_frames(tmp_path / "clip.mp4")
    assert len(frames) == len(expected) == 12
    assert min(psnr(one, other) for one, other in zip(frames, expected, strict=True)) > 45


@pytest.mark.parametrize("colorspace", [1, 6], ids=["BT.709", "BT.601"])
def test_colours_are_decoded_by_the_matrix_that_the_file_names(tmp_path: Path, colorspace: int) -> None:
    with open_video(encode(tmp_path / "clip.mp4", 1, colorspace=colorspace)) as video:
        image = next(iter(video)).image
    assert psnr(image, picture(0)) > 38


def test_what_we_write_is_what_we_read(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.24]
    with VideoWriter(tmp_path / "clip.mp4", size=(48, 64), rate=Fraction(25)) as writer:
        for number, time_s in enumerate(times):
            writer.write(picture(number), time_s)
    with open_video(tmp_path / "clip.mp4") as video:
        frames = list(video)
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=1e-4)
    assert min(psnr(frame.image, picture(n)) for n, frame in enumerate(frames)) > 38


def test_title_that_is_not_utf8_is_no_reason_to_refuse(tmp_path: Path) -> None:
    content = encode(tmp_path / "clip.mkv", 2, format="matroska", title="Caf__").read_bytes()
    assert content.count(b"Caf__") == 1
    (tmp_path / "clip.mkv").write_bytes(content.replace(b"Caf__", b"Caf\xe9\xff"))
    with open_video(tmp_path / "clip.mkv") as video:
        assert len(list(video)) == 2


def test_times_of_a_variable_rate_are_kept_and_start_at_zero(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mkv", 5, format="matroska", times=[1.0, 1.04, 1.5, 1.51, 3.0])
    with open_video(path) as video:
        assert [frame.time_s for frame in video] == pytest.approx([0, 0.04, 0.5, 0.51, 2.0], abs=1e-3)


def test_times_of_more_frames_than_the_container_can_count_keep_to_the_time_stamps(tmp_path: Path) -> None:
    """Matroska counts milliseconds: at 1200 frames a second some frames have the time stamp of the one before them."""
    path = encode(tmp_path / "clip.mkv", 120, format="matroska", times=[n / 1200 for n in range(120)])
    with open_video(path) as video:
        times = [frame.time_s for frame in video]
    assert (np.diff(times) > 0).all()
    assert times == pytest.approx([n / 1200 for n in range(120)], abs=0.0006)


def test_raw_stream_without_times_counts_at_its_rate(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "clip.h264", 5, format="h264")) as video:
        assert video.frames_declared is None
        assert [frame.time_s for frame in video] == pytest.approx([n / 25 for n in range(5)])


# Columns of the display matrix: (a, b) is where x goes, (c, d) where y goes; what is shown is worked out by hand.
@pytest.mark.parametrize(
    ("abcd", "shown"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_display_matrix_is_applied(
    tmp_path: Path, abcd: tuple[int, ...], shown: Callable[[np.ndarray], np.ndarray]
) -> None:
    a, b, c, d = (value * 65536 for value in abcd)
    path = encode(tmp_path / "clip.mov", 1, format="mov", matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    expected = shown(picture(0))
    with open_video(path) as video:
        assert video.size == expected.shape[:2]
        assert psnr(next(iter(video)).image, expected) > 38


def test_frames_of_another_size_are_scaled_to_the_first_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = encode(tmp_path / "a.h264", 3, format="h264").read_bytes()
    second = encode(tmp_path / "b.h264", 3, format="h264", size=(96, 128)).read_bytes()
    (tmp_path / "both.h264").write_bytes(first + second)
    with caplog.at_level(logging.WARNING), open_video(tmp_path / "both.h264") as video:
        frames = list(video)
        assert video.damage is None
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 6
    assert [frame.time_s for frame in frames] == pytest.approx([n / 25 for n in range(6)])
    assert psnr(frames[3].image, picture(0)) > 34
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/both.h264: frames of 128x96 are scaled to 64x48"
    ]


def test_joined_recordings_whose_times_start_anew_go_on_in_time(tmp_path: Path) -> None:
    one = encode(tmp_path / "a.ts", 5, format="mpegts").read_bytes()
    (tmp_path / "both.ts").write_bytes(one + one)
    with open_video(tmp_path / "both.ts") as video:
        times = [frame.time_s for frame in video]
    assert len(times) == 10 and (np.diff(times) > 0).all() and times[-1] < 1


# ---- what is damaged or no video


@pytest.mark.parametrize(("format", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")])
def test_cut_file_gives_the_frames_it_has_and_tells_the_damage(tmp_path: Path, format: str, codec: str) -> None:
    content = encode(tmp_path / "whole", 75, format=format, codec=codec).read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) * 6 // 10])
    with open_video(tmp_path / "cut") as video:
        frames = list(video)
        assert 0 < len(frames) == video.frames_read < 60 and video.frames_declared == 75
        assert video.damage is not None and "\n" not in video.damage
    assert min(psnr(frame.image, picture(n)) for n, frame in enumerate(frames)) > 24


@pytest.mark.parametrize(("format", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")])
def test_a_damaged_packet_is_left_out_and_the_frames_after_it_are_read(tmp_path: Path, format: str, codec: str) -> None:
    path = encode(tmp_path / "clip", 30, format=format, codec=codec)
    with av.open(str(path)) as container:
        spoilt = [packet for packet in container.demux(video=0) if packet.size][12]
        assert spoilt.pos is not None
        place, size = path.read_bytes().index(bytes(spoilt), spoilt.pos), spoilt.size
    content = bytearray(path.read_bytes())
    content[place : place + size] = b"\xff" * size
    path.write_bytes(content)
    with open_video(path) as video:
        frames = list(video)
        assert video.damage is not None and "1 damaged part is left out, the first after 0.44 s" in video.damage
        assert "29 of 30 frames; 1 damaged part" in video.summary
    shown = [n for n in range(30) if n != 12]
    assert [frame.time_s for frame in frames] == pytest.approx([n / 25 for n in shown], abs=0.002)
    assert min(psnr(frame.image, picture(n)) for n, frame in zip(shown, frames, strict=True)) > 18  # with its traces


def test_recording_that_begins_in_the_middle_is_read_from_its_first_whole_picture(tmp_path: Path) -> None:
    content = encode(tmp_path / "a.h264", 6, format="h264").read_bytes()
    again = encode(tmp_path / "b.h264", 4, format="h264").read_bytes()
    second = content.index(b"\x00\x00\x01\x41")  # a slice that is no key picture
    (tmp_path / "late.h264").write_bytes(content[second:] + again)
    with open_video(tmp_path / "late.h264") as video:
        frames = list(video)
        assert video.damage is None
    assert psnr(frames[-1].image, picture(3)) > 34


def sound(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))
    return path


def only_sound_in_mp4(path: Path) -> Path:
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a video"),
        (b"hello\n" * 500, "not a video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n", "not a video"),
        (b"ffconcat version 1.0\nfile 'other.mp4'\n", "not a video"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "not a video"),
    ],
    ids=["empty", "text", "playlist", "concat", "sdp"],
)
def test_what_is_no_video_is_named_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    encode(tmp_path / "other.mp4", 1)
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=message) as caught:
        open_video(tmp_path / "clip.mp4")
    assert str(caught.value).startswith(f"{tmp_path}/clip.mp4: ") and "\n" not in str(caught.value)


def test_file_cut_in_its_header_is_refused(tmp_path: Path) -> None:
    content = encode(tmp_path / "whole.mp4").read_bytes()
    for length in (20, 200, content.index(b"mdat")):
        (tmp_path / "cut.mp4").write_bytes(content[:length])
        with pytest.raises(VideoError, match=r"cut\.mp4: "):
            open_video(tmp_path / "cut.mp4")


def test_sound_alone_and_a_still_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="not a video"):
        open_video(sound(tmp_path / "sound.wav"))
    with pytest.raises(VideoError, match="holds no pictures, only audio"):
        open_video(only_sound_in_mp4(tmp_path / "sound.mp4"))
    (tmp_path / "still.mp4").write_bytes(cv2.imencode(".png", picture(0))[1].tobytes())
    with pytest.raises(VideoError, match="not a video"):
        open_video(tmp_path / "still.mp4")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, message in [
        (tmp_path / "pipe.mp4", "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "none.mp4", "no such video"),
        (Path("http://127.0.0.1:9/clip.mp4"), "no such video"),
        (tmp_path / "frame%d.mp4", "no such video"),
    ]:
        with pytest.raises(VideoError, match=message):
            open_video(path)


@pytest.mark.parametrize("name", ["http:x.mp4", "frame%03d.mp4", "concat:a|b.mp4", "ünï [1].mp4"])
def test_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.move(encode(tmp_path / "clip.mp4", 2), name)
    with open_video(Path(name)) as video:
        assert len(list(video)) == 2


def test_frames_above_the_limit_are_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 2)
    with pytest.raises(VideoError, match=r"clip\.mp4: 64x48 is above the limit of 3000 pixels"):
        open_video(path, max_pixels=3000)


def test_reading_on_and_on_needs_no_more_memory(tmp_path: Path) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the memory of a process is read from /proc")
    path = encode(tmp_path / "clip.mp4", 60, size=(240, 320))

    def megabytes_after(rounds: int) -> float:
        for _ in range(rounds):
            with open_video(path) as video:
                for _ in video:
                    pass
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6

    before = megabytes_after(1)
    assert megabytes_after(4) - before < 8  # 55 MB of frames passed


# ---- the real clips


@pytest.mark.parametrize(
    ("name", "size", "rate", "declared", "readable"),
    [
        ("bottle-detection.mp4", (360, 640), Fraction(179, 6), 1189, 60),
        ("mmtracking_demo.mp4", (1080, 1920), 3, 8, 8),
        ("mmcv_test.mp4", (240, 294), 25, 168, 168),
        ("video_90.mov", (568, 320), 30, 3, 3),
        ("video_180.mov", (320, 568), 30, 3, 3),
        ("corrupted.mp4", (720, 1280), 10, 50, 49),  # OpenCV stops at the damaged packet, after 28
    ],
)
def test_real_clips_are_read_as_opencv_reads_them(
    test_data: Path, name: str, size: tuple[int, int], rate: Fraction, declared: int, readable: int
) -> None:
    path = test_data / "extra" / "videos" / name
    expected = opencv_frames(path, readable)
    with open_video(path) as video:
        assert (video.size, video.rate, video.frames_declared) == (size, rate, declared)
        frames = iter(video)
        for frame in itertools.islice(frames, readable):
            assert frame.index >= len(expected) or psnr(frame.image, expected[frame.index]) > 45
        assert video.frames_read == readable
        if name != "bottle-detection.mp4":
            assert list(frames) == []
            assert (video.damage is None) == (len(expected) == readable) == (name != "corrupted.mp4")
