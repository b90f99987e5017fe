"""What killed processes leave half written is removed by the next that writes there; their helpers end with them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbvision import writing
from mbvision.writing import remove_leftovers, replace_text, temporary_folder, temporary_of

WRITE = """
import os, signal, sys
from pathlib import Path
from mbvision.writing import replacing, temporary_folder
folder = Path(sys.argv[1])
with replacing(folder / "a.json") as file, temporary_folder(folder / "model.onnx") as made:
    file.touch()
    (made / "model.onnx").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
DRAW = """
import sys
from pathlib import Path
from mbvision.data.scenes import make_scenes
if __name__ == "__main__":
    make_scenes(Path(sys.argv[1]), train_images=2000, val_images=1)
"""
PATIENCE_S = 120
"""Ours: no test waits longer for a process to start, or to end."""


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    remove_leftovers.cache_clear()  # else a folder is looked through once in a process
    yield
    remove_leftovers.cache_clear()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_next_process_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL and len(names(tmp_path)) == 2
    others = [".a.123.partial", ".mine.partial", "b.partial"]
    for name in others:
        (tmp_path / name).touch()
    replace_text(tmp_path / "other.txt", "new")
    assert names(tmp_path) == [*others, "other.txt"]


def test_what_others_are_writing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_folder(tmp_path / "set"):
        mine = names(tmp_path)
        monkeypatch.setattr(writing, "_machine", lambda: "0" * 8)
        other = temporary_of(tmp_path / "a.json").with_name(".a.json.12345678-999999999.partial")  # no such process
        other.touch()
        remove_leftovers.cache_clear()
        remove_leftovers(tmp_path)
        assert names(tmp_path) == sorted([*mine, other.name])  # of other machines, whose processes we cannot see
        yesterday = time.time() - 90_000
        os.utime(other, (yesterday, yesterday))
        remove_leftovers.cache_clear()
        remove_leftovers(tmp_path)
        assert names(tmp_path) == mine


def drawing(root: Path) -> tuple["subprocess.Popen[bytes]", set[int]]:
    """A process that draws scenes, and those that it has started, once the first of them has drawn one."""
    script = root.parent / "draw.py"
    script.write_text(DRAW, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script), str(root)], stderr=subprocess.DEVNULL)
    ends = time.monotonic() + PATIENCE_S
    while not list(root.parent.glob(".set.*.partial/train2017/*.jpg")):
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    return process, set(map(int, children))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks the system for the children of a process")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_processes_that_draw_end_with_the_one_that_started_them(tmp_path: Path, signum: signal.Signals) -> None:
    process, children = drawing(tmp_path / "set")
    assert children
    process.send_signal(signum)
    assert process.wait(PATIENCE_S) == -signum
    ends = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < ends, children
        time.sleep(0.05)
    replace_text(tmp_path / "other.txt", "new")
    assert names(tmp_path) == ["draw.py", "other.txt"]
