"""Videos: whole ones give their frames, cut ones say how much came, everything else is refused by name."""

import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from PIL import Image

from mbvision.inference.video import open_video
from tests.faults.case import Case, Content

FRAMES = 24


@lru_cache(maxsize=16)
def clip(suffix: str = "mp4", codec: str = "mpeg4", width: int = 64, height: int = 48, frames: int = FRAMES) -> bytes:
    """A clip whose frame number n is a gray of 10 n on its left, and noise on its right."""
    random = np.random.default_rng(12)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.gop_size = 6
            stream.bit_rate = 2_000_000
            container.start_encoding()
            for number in range(frames):
                picture = np.full((height, width, 3), 10 * number, dtype=np.uint8)
                picture[:, width // 2 :] = random.integers(0, 256, (height, width - width // 2, 3))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        return path.read_bytes()


@lru_cache(maxsize=1)
def sound() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), dtype=np.int16), layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


class Seen(list[np.ndarray]):
    """The frames of a video, and why they ended early."""

    damage: str | None = None
    skipped: tuple[tuple[str, str], ...] = ()


def seen(path: Any) -> Seen:
    video = open_video(path)
    frames = Seen(video)
    frames.damage = video.damage
    if video.damage:
        frames.skipped = ((video.source.name, video.source.summary),)
    return frames


def video_cases() -> Iterator[Case]:
    yield from _good()
    yield from _cut()
    yield from _refused()
    yield from _places()


def _case(
    name: str, content: Callable[[], bytes], *, file: str = "v.mp4", quick: bool = False, **expected: Any
) -> Case:
    def make(folder: Path) -> Path:
        (folder / file).write_bytes(content())
        return folder / file

    return Case(kind="video", name=name, make=make, use=seen, quick=quick, **expected)


def _whole(frames: Content, width: int = 64, height: int = 48) -> bool:
    return len(frames) == FRAMES and frames.damage is None and _right(frames, width, height)


def _right(frames: Content, width: int = 64, height: int = 48) -> bool:
    """Every frame has its size and its gray: none is missing before it, and none is made up."""
    shapes = {frame.shape for frame in frames} <= {(height, width, 3)} and all(f.dtype == np.uint8 for f in frames)
    return shapes and all(abs(int(np.median(frame[:, 4:20])) - 10 * number) < 16 for number, frame in enumerate(frames))


def _good() -> Iterator[Case]:
    for suffix, codec in (
        ("mp4", "mpeg4"),
        ("mkv", "mpeg4"),
        ("avi", "mpeg4"),
        ("mp4", "libx264"),
        ("mov", "mpeg4"),
        ("ts", "mpeg2video"),
    ):
        yield _case(f"{suffix}, {codec}", lambda s=suffix, c=codec: clip(s, c), loads=_whole, quick=codec == "libx264")
    yield _case("named .txt", lambda: clip(), file="v.txt", loads=_whole)
    yield _case("an odd size", lambda: clip("avi", "ffv1", 63, 47), loads=lambda frames: _whole(frames, 63, 47))
    yield _case("a name with signs", lambda: clip(), file="a%03d.mp4", loads=_whole)
    yield _case("a name that looks like a protocol", lambda: clip(), file="file:x.mp4", loads=_whole)
    yield _case("one frame", lambda: clip(frames=1), loads=lambda frames: len(frames) == 1)
    more = clip().replace(_count(FRAMES), _count(10 * FRAMES))
    yield _case(
        "a header that says ten times as many frames",
        lambda: more,
        loads=lambda frames: _right(frames),
        error=("v.mp4",),
    )


def _count(frames: int) -> bytes:
    """The number of samples as the size table of an MP4 has it (ISO/IEC 14496-12, 8.7.3)."""
    return b"stsz" + bytes(8) + struct.pack(">I", frames)


def _cut() -> Iterator[Case]:
    """What came before the cut is right, and how much it was is told."""
    for suffix, codec in (("mkv", "mpeg4"), ("avi", "mpeg4"), ("ts", "mpeg2video")):
        for share in (0.3, 0.6, 0.9):
            yield _case(
                f"{share:.0%} of a {suffix}",
                lambda s=suffix, c=codec, share=share: clip(s, c)[: int(len(clip(s, c)) * share)],
                loads=lambda frames: len(frames) < FRAMES and _right(frames),
                skips=("v.mp4",) if suffix != "ts" else (),  # a transport stream says nowhere how long it is
                error=("v.mp4",),
                quick=share == 0.6,
            )
    broken = bytearray(clip())
    start = broken.index(b"mdat") + 6000
    broken[start : start + 900] = np.random.default_rng(1).bytes(900)
    yield _case(
        "noise in the middle",
        lambda: bytes(broken),
        loads=lambda frames: 0 < len(frames) < FRAMES and _right(frames),  # those before it
        skips=("v.mp4",),
        error=("v.mp4",),
    )


def _refused() -> Iterator[Case]:
    whole = clip()
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n../outside/secret.txt\n#EXT-X-ENDLIST\n"
    picture = Image.new("RGB", (8, 8))
    for name, content in {
        "empty": lambda: b"",
        "text": lambda: b"no video\n" * 200,
        "noise": lambda: np.random.default_rng(2).bytes(20_000),
        "zeros": lambda: bytes(20_000),
        "half of an MP4, whose index was at its end": lambda: whole[: len(whole) // 2],
        "only the start of an MP4": lambda: whole[:40],
        "sound alone": sound,
        "no frames": lambda: clip(frames=0),
        "a playlist": lambda: playlist,
        "a list of files": lambda: b"ffconcat version 1.0\nfile ../outside/secret.txt\n",
        "a session description": lambda: (
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
        ),
        "a picture": lambda: _png(picture),
        "subtitles": lambda: b"1\n00:00:00,000 --> 00:00:01,000\nHello\n",
        "HTML": lambda: b"<html>404</html>",
    }.items():
        yield _case(name, content, error=("v.mp4",), quick=name in ("empty", "text", "a playlist"))
    vast = bytearray(whole)
    for place in (vast.index(b"tkhd") + 80, vast.index(b"mp4v") + 28):
        vast[place : place + 4] = b"\xff\xff\xff\xff"
    yield _case(
        "a header that says 65535x65535", lambda: bytes(vast), loads=lambda frames: _right(frames), error=("v.mp4",)
    )
    large = bytearray(clip("avi", "ffv1", 64, 48))
    at = large.index(b"strf") + 12
    large[at : at + 8] = struct.pack("<ii", 60000, 60000)
    yield _case("an AVI that says 60000x60000", lambda: bytes(large), loads=lambda frames: not frames, error=("v.mp4",))
    many = whole.replace(_count(FRAMES), _count(2**32 - 1))
    yield _case("an index of 4 billion frames", lambda: many, loads=lambda frames: _right(frames), error=("v.mp4",))


def _png(image: Image.Image) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _places() -> Iterator[Case]:
    def case(name: str, make: Callable[[Path], Any], *words: str) -> Case:
        return Case(kind="video", name=name, make=make, use=seen, error=words, quick=True)

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "v.mp4")
        return folder / "v.mp4"

    def device(folder: Path) -> Path:
        (folder / "v.mp4").symlink_to("/dev/zero")
        return folder / "v.mp4"

    yield case("missing", lambda folder: folder / "v.mp4", "v.mp4")
    yield case("a folder", lambda folder: folder, "in")
    yield case("a pipe", pipe, "v.mp4")
    yield case("a device", device, "v.mp4")
    yield case("a camera's number", lambda folder: 0, "0")
    yield case("a camera's number as a text", lambda folder: "0", "0")
    for source in (
        "http://127.0.0.1:9/v.mp4",
        "rtsp://127.0.0.1:9/",
        "pipe:0",
        "concat:a.mp4|b.mp4",
        "frame%03d.png",
        "-",
        "",
    ):
        yield case(f"source {source!r}", lambda folder, source=source: source, source.split("/")[-1][:6] or ".")
