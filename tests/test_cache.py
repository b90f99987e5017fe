"""Where exported files are kept on other people's machines: without a home, with one that cannot be written."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import mbvision
from mbvision.deploy.cache import cache_folder
from mbvision.errors import ConfigError
from tests.tiny_checkpoints import write_checkpoint


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, and no folder that is named."""
    for name in ("MBVISION_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)


def test_the_cache_is_the_users_and_what_is_named_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "mbvision"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mbvision"
    monkeypatch.setenv("MBVISION_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"


@pytest.mark.parametrize("home", ["none", "read-only"])
def test_without_a_home_that_can_be_written_it_is_a_temporary_folder_of_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path, home: str
) -> None:
    if home == "none":
        without_home(monkeypatch)
    else:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # the administrator may write everywhere
    folder = cache_folder()
    assert folder == temporary / f"mbvision-{os.getuid()}" and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="not this user's alone: set the environment variable MBVISION_CACHE"):
        cache_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="not this user's alone"):
        cache_folder()


def test_a_runtime_that_is_asked_for_says_where_nothing_can_be_kept_and_auto_takes_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without_home(monkeypatch)
    temporary.rmdir()  # as in a container without a folder that can be written
    checkpoint = write_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ConfigError, match="no folder here can keep exported files"):
        mbvision.load(checkpoint, runtime="onnx", device="cpu")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MBVISION_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match=r"nothing can be kept in .*file/cache.* \(Not a directory\): set the env"):
        mbvision.load(checkpoint, runtime="onnx", device="cpu")
    monkeypatch.delenv("MBVISION_CACHE")
    with caplog.at_level("WARNING"):
        mbvision.load(checkpoint, runtime="auto", device="cpu")
    assert "runtime=auto: torch, as no folder here can keep" in caplog.text


LOAD = """
import sys, tempfile
def fail(*_):
    raise FileNotFoundError("No usable temporary directory found")
tempfile._get_default_tempdir = fail
import mbvision
mbvision.load(sys.argv[1])
print("matplotlib" in sys.modules)
"""


def test_a_model_is_loaded_where_no_folder_can_be_written(tmp_path: Path) -> None:
    """Matplotlib wants a folder when it is imported, and so does torch."""
    checkpoint = write_checkpoint(tmp_path / "a.ckpt")
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    command = [sys.executable, "-c", LOAD, str(checkpoint)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert done.stdout == "False\n", done.stderr
