"""The folder of a training run: where it is, who writes to it, and the command it came from."""

import datetime
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.data.yaml_files import read_mapping, write_mapping
from mbvision.errors import ConfigError, DataError
from mbvision.writing import replace_text


def run_folder(config: Mapping[str, Any]) -> Path:
    """The folder of this run. Raises `ConfigError` if it holds another run's checkpoint."""
    if config["run_dir"]:
        folder = Path(config["run_dir"])
    else:
        # Processes that Lightning starts inherit the first one's stamp; of torchrun's, the first one writes.
        now = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
        stamp = os.environ.setdefault("MBVISION_RUN_STAMP", now)
        folder = Path("runs") / "-".join(config["heads"]) / stamp
    if any(folder.glob("*.ckpt")) and first_process() and not config["resume"]:
        raise ConfigError(f"run_dir={folder} holds another run: name a new folder, or resume={folder}/last.ckpt")
    return folder


def check_writable(folder: Path) -> None:
    """Raise `ConfigError` if ``folder`` cannot be made or written: better now than after hours of reading."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ConfigError(f"run_dir={folder} cannot be made: {place} is a file; name another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"run_dir={folder} cannot be written: {place} is read-only; name another folder")


def first_process() -> bool:
    """Whether this process writes: the first of those that torchrun, SLURM or Lightning started."""
    rank = next((os.environ[key] for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if key in os.environ), "0")
    return int(rank) == 0


def write_config(folder: Path, config: Mapping[str, Any], command: Sequence[str]) -> None:
    """Make the folder and write ``config.yaml``: everything resolved, and the command that gave it."""
    if not first_process():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        resolved = write_mapping({**config, "command": list(command)})
        replace_text(folder / "config.yaml", f"# python tools/train.py {shlex.join(command)}\n{resolved}")
    except OSError as error:
        raise ConfigError(f"run_dir={folder} cannot be written: {error.strerror}") from error


def read_command(path: Path) -> list[str]:
    """The command that ``config.yaml`` came from. Raises `ConfigError` if the file does not hold one."""
    try:
        command = read_mapping(path, what="config.yaml of a run").get("command")
    except DataError as error:
        raise ConfigError(f"{error}: give the run's keys again, and another run_dir=") from error
    if not isinstance(command, list) or not all(isinstance(word, str) and "=" in word for word in command):
        raise ConfigError(f"{path} holds no command: it is not the config.yaml of a run")
    return command
