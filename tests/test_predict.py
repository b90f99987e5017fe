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

from mbvision.commands import predict, run
from mbvision.data import frames
from mbvision.data.frames import FrameSource
from tests.tiny_checkpoints import write_checkpoint
from tests.video_clips import encode, opencv_frames, picture


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
