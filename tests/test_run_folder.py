"""A run folder is of one run: whoever asks for it while that is at work is refused, a killed run holds nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mbvision.commands.run_folder import RANKS, RUNNING, STAMP, claimed, first_process
from mbvision.errors import ConfigError
from mbvision.writing import held

HOLD = """
import sys
from mbvision.commands.run_folder import claimed
with claimed({"run_dir": sys.argv[1], "resume": None, "heads": {}}):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(STAMP, "20260101-000000")  # all are of the same second


def settings(run_dir: str | None = None, resume: str | None = None) -> dict[str, Any]:
    return {"run_dir": run_dir, "resume": resume, "heads": {"detection": {}}}


@pytest.fixture
def other(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process, at work in the folder ``run``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("resume", [None, "run/last.ckpt"])
def test_a_folder_in_which_a_run_is_at_work_is_refused_until_it_ends_or_is_killed(
    other: "subprocess.Popen[str]", tmp_path: Path, resume: str | None
) -> None:
    for folder in ("run", str(tmp_path / "run")):
        with pytest.raises(ConfigError, match="run: another run is at work there"), claimed(settings(folder, resume)):
            pytest.fail("two runs share a folder")
    other.kill()
    other.wait()
    assert (tmp_path / "run" / RUNNING).exists()
    with claimed(settings("run")) as folder:
        (folder / "config.yaml").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_runs_of_the_same_second_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        folders = []
        for _ in range(3):
            monkeypatch.setenv(STAMP, "20260101-000000")
            folders.append(stack.enter_context(claimed(settings())))
        assert [str(folder) for folder in folders] == [
            f"runs/detection/20260101-000000{number}" for number in ("", "-2", "-3")
        ]
        assert all(folder.is_dir() for folder in folders) and os.environ[STAMP] == "20260101-000000-3"
    assert not any(folder.exists() for folder in folders)  # nothing was put there


def test_an_empty_folder_is_taken_and_stays_and_one_with_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with claimed(settings("run")):
        pass
    (tmp_path / "run" / "last.ckpt").touch()
    with pytest.raises(ConfigError, match="holds another run"), claimed(settings("run")):
        pytest.fail("it holds another run")
    with claimed(settings("run", "run/last.ckpt")) as folder:
        assert folder == Path("run")


@pytest.mark.parametrize("name", RANKS)
def test_processes_beside_the_first_one_claim_and_make_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert first_process()
    monkeypatch.setenv(name, "1")
    with claimed(settings()) as folder:
        assert folder == Path("runs/detection/20260101-000000")
    assert not first_process() and not (tmp_path / "runs").exists()


def test_a_lock_file_that_its_last_holder_removed_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = tmp_path / "lock", []
    monkeypatch.setattr(
        "mbvision.writing.fcntl.lockf", lambda *_: opened.append(1) or (len(opened) == 1 and path.unlink())
    )
    with held(path):
        assert len(opened) == 2 and path.exists()
    assert not path.exists()
