"""``predict`` as users type it: what it reads, what it writes, and what it must leave alone."""

import json
import os
import signal
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.commands import predict, run
from mbvision.commands.predict_outputs import RECORD, unique_stems
from mbvision.commands.predict_sources import find_sources
from mbvision.data import frames
from mbvision.data.animation import open_moving
from mbvision.data.frames import FrameSource
from mbvision.inference import predictor
from tests.tiny_checkpoints import write_checkpoint
from tests.video_clips import encode, opencv_frames, picture, psnr


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("segmenter") / "a.ckpt", "task=lraspp")


def predicted(checkpoint: Path, *arguments: str) -> int:
    return run(predict.main, [f"checkpoint={checkpoint}", "runtime=torch", *arguments])


# ---- signals


class EndlessCamera(FrameSource):
    """A camera that a signal stops at its eighth frame; no other frame comes in time after that."""

    signum = signal.SIGINT

    def __init__(self, number: int) -> None:
        super().__init__(name=f"camera:{number}", size=(48, 64), rate=Fraction(20), frames_declared=None)

    def _pictures(self) -> Iterator[tuple[float | None, np.ndarray]]:
        for number in range(8):
            yield number / 20, picture(number)
        os.kill(os.getpid(), self.signum)
        time.sleep(0.5)

    def close(self) -> None:
        pass


class HangingCamera(EndlessCamera):
    """One for which a user presses Ctrl-C once more."""

    def _pictures(self) -> Iterator[tuple[float | None, np.ndarray]]:
        yield from super()._pictures()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_recording_which_is_kept_and_counted(
    segmenter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signum: signal.Signals,
    code: int,
) -> None:
    monkeypatch.setattr(EndlessCamera, "signum", signum)
    monkeypatch.setattr(frames, "Camera", EndlessCamera)
    out = tmp_path / "out"
    assert predicted(segmenter, "source=camera:0", f"output={out}", "save=[video,masks,json]") == code
    said = capsys.readouterr()
    lines = (out / "camera-0.jsonl").read_text().splitlines()
    assert 1 <= len(lines) <= 8  # those that waited for the network are left out
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))
    assert len(opencv_frames(out / "camera-0.mp4")) == len(list((out / "camera-0_masks").iterdir())) == len(lines)
    assert not list(out.glob(".*.partial"))
    assert f"camera:0: stopped after {len(lines)} frames" in said.out
    assert said.err.splitlines()[-1] == (
        f"stopped by {signum.name} after {len(lines)} frames of camera:0, which are kept in {out}"
    )


def test_a_second_ctrl_c_keeps_the_recording_too(
    segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "Camera", HangingCamera)
    assert predicted(segmenter, "source=camera:0", f"output={tmp_path}/out") == 130
    assert len(opencv_frames(tmp_path / "out" / "camera-0.mp4")) >= 1


# ---- what is written


def test_a_second_run_leaves_nothing_of_the_first(segmenter: Path, tmp_path: Path) -> None:
    for count in (6, 4):
        encode(tmp_path / "clip.avi", count, format="avi", codec="mpeg4")
        assert predicted(segmenter, f"source={tmp_path}/clip.avi", f"output={tmp_path}/out", "save=masks") == 0
        names = sorted(path.name for path in (tmp_path / "out" / "clip_masks").iterdir())
        assert names == [f"{number:06d}.png" for number in range(count)]


def test_files_that_no_predict_has_written_are_left_alone(
    segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode(tmp_path / "ok.avi", 3, format="avi", codec="mpeg4")
    Image.fromarray(picture(0)).save(tmp_path / "x.webp")
    (tmp_path / "ok_masks").mkdir()
    for name in ("ok.mp4", "x.jpg", "ok_masks/truth.png"):
        (tmp_path / name).write_bytes(b"the user's own")
    for source, name, more in (
        ("ok.avi", "ok.mp4", []),
        ("x.webp", "x.jpg", []),
        ("ok.avi", "ok_masks/truth.png", ["save=masks"]),
    ):
        assert predicted(segmenter, f"source={tmp_path / source}", f"output={tmp_path}", *more) == 2
        assert f"would overwrite {tmp_path / name}, which no predict has written" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == b"the user's own"
    assert predicted(segmenter, f"source={tmp_path}/ok.avi", f"output={tmp_path}", "save=json") == 0


def test_outputs_of_an_earlier_run_are_replaced(segmenter: Path, tmp_path: Path) -> None:
    encode(tmp_path / "clip.avi", 2, format="avi", codec="mpeg4")
    Image.fromarray(picture(0)).save(tmp_path / "x.png")
    for name in ("clip.avi", "x.png", "clip.avi"):
        assert predicted(segmenter, f"source={tmp_path / name}", f"output={tmp_path}/out") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {RECORD, "clip.mp4", "x.jpg", "x.json", "x.png"}


def test_a_source_is_not_replaced_though_predict_wrote_it(
    segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "x.png")
    assert predicted(segmenter, f"source={tmp_path}/x.png", f"output={tmp_path}/out") == 0
    before = (tmp_path / "out" / "x.jpg").read_bytes()
    assert predicted(segmenter, f"source={tmp_path}/out/x.jpg", f"output={tmp_path}/out") == 2
    assert f"would overwrite {tmp_path}/out/x.jpg" in capsys.readouterr().err
    assert (tmp_path / "out" / "x.jpg").read_bytes() == before


def test_long_names_are_cut_where_their_outputs_would_not_fit(segmenter: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = ["a", "b" * 246, "c" * 251, "c" * 250 + "d"]
    for name in names:
        Image.fromarray(picture(0)).save(tmp_path / "in" / f"{name}.png")
    assert predicted(segmenter, f"source={tmp_path}/in", f"output={tmp_path}/out", "save=json") == 0
    found = {json.loads(path.read_text())["source"] for path in (tmp_path / "out").glob("*.json")}
    assert found == {f"{tmp_path}/in/{name}.png" for name in names}
    assert (
        predicted(segmenter, f"source={tmp_path}/in/{names[2]}.png", f"output={tmp_path}/v", "save=[video,json]") == 0
    )


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a.jpg", "b/a.png", "c/a.png"], ["a", "a.png", "a-2"]),
        (["A.jpg", "a.jpg"], ["A", "a.jpg"]),
        (["x" * 250 + ".jpg", "x" * 251 + ".jpg"], ["x" * 235, "x" * 235 + "-2"]),
        (["\u00e4" * 120 + ".jpg"], ["\u00e4" * 117]),
    ],
)
def test_every_source_has_a_name_of_its_own(names: list[str], stems: list[str]) -> None:
    assert unique_stems([Path(name) for name in names]) == stems


# ---- what is read


def test_frames_are_in_natural_order_and_each_line_names_its_own_file(segmenter: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (0, 1, 2, 10, 11):
        Image.fromarray(picture(5 * number)).save(folder / f"f{number}.png")
    assert predicted(segmenter, f"source={folder}", f"output={tmp_path}/out", "save=[video,json]") == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "frames.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == [f"{folder}/f{number}.png" for number in (0, 1, 2, 10, 11)]
    assert find_sources(f"{folder}/*.png")[0] == [folder / f"f{number}.png" for number in (0, 1, 2, 10, 11)]


@pytest.mark.parametrize(("suffix", "format"), [(".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG"), (".jpg", "GIF")])
def test_all_frames_of_an_animated_image_are_predicted(
    segmenter: Path, tmp_path: Path, suffix: str, format: str
) -> None:
    shown = [Image.fromarray(picture(10 * number)) for number in range(5)]
    path = tmp_path / f"anim{suffix}"
    more = {"lossless": True} if format == "WEBP" else {}
    shown[0].save(path, format, save_all=True, append_images=shown[1:], duration=[100, 40, 200, 0, 100], **more)
    assert find_sources(str(path)) == ([], [path])
    with open_moving(path) as source:
        found = list(source)
        assert (source.frames_declared, source.damage) == (5, None)
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.14, 0.34, 0.44])
    assert min(psnr(frame.image, picture(10 * number)) for number, frame in enumerate(found)) > 28
    assert predicted(segmenter, f"source={path}", f"output={tmp_path}/out") == 0
    assert len(opencv_frames(tmp_path / "out" / "anim.mp4")) == 5


def test_a_cut_animation_gives_the_frames_it_has(segmenter: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    shown = [Image.fromarray(image) for image in noise]
    shown[0].save(tmp_path / "a.gif", save_all=True, append_images=shown[1:], duration=100)
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[: len(content) * 7 // 10])
    with open_moving(tmp_path / "a.gif") as source:
        assert 0 < len(list(source)) < 5 and source.damage is not None
    assert predicted(segmenter, f"source={tmp_path}/a.gif", f"output={tmp_path}/out") == 3


def test_what_a_file_is_its_content_says(tmp_path: Path) -> None:
    for name, format, codec in (("a.y4m", "yuv4mpegpipe", "wrapped_avframe"), ("b.h264", "h264", "libx264")):
        encode(tmp_path / name, 4, format=format, codec=codec)
    encode(tmp_path / "c.png", 4)
    Image.fromarray(picture(0)).save(tmp_path / "d.mp4", "PNG")
    (tmp_path / "e.png").write_text("neither")
    (tmp_path / "f.mkv").write_text("neither")
    images, videos = find_sources(str(tmp_path))
    assert [path.name for path in images] == ["d.mp4", "e.png"]
    assert [path.name for path in videos] == ["a.y4m", "b.h264", "c.png", "f.mkv"]


def test_what_is_left_out_of_a_folder_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "inner").mkdir()
    pages = [Image.fromarray(picture(number)) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    for name in ("notes.txt", "._a.tif", "photo.heic"):
        (tmp_path / name).write_text("no image")
    assert find_sources(str(tmp_path)) == ([tmp_path / "a.tif"], [])
    assert "the first of its 3 pages is read" in caplog.text
    assert "1 sub-folders are not searched (inner)" in caplog.text
    for name in ("notes.txt", "._a.tif", "photo.heic"):
        assert name in caplog.text


def test_a_missing_camera_is_said_before_anything_is_computed(
    segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_load(*_: object, **__: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(predictor, "load", no_load)
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "bad.png").write_text("no image")
    for source, message in (
        ("camera:77", "there is no such camera"),
        ("camera:x", "name the camera by its number"),
        (f"{tmp_path}/bad.mp4", "not a video"),
        (f"{tmp_path}/bad.png", "not an image"),
    ):
        assert run(predict.main, [f"checkpoint={segmenter}", f"source={source}", f"output={tmp_path}/out"]) == 2
        assert message in capsys.readouterr().err
