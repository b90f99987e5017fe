"""The folder of a training run: where it is, who writes to it, and the command it came from."""

import datetime
import itertools
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mbvision.commands.typed import as_typed
from mbvision.data.yaml_files import read_mapping, write_mapping
from mbvision.errors import ConfigError, DataError
from mbvision.writing import held, replace_text

STAMP = "MBVISION_RUN_STAMP"
"""The environment variable that gives the name of the first process's folder to those that Lightning starts."""
RUNNING = ".running"
"""The file whose lock says that a run is at work in a folder."""
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""What torchrun, Lightning and SLURM number processes or machines by; those that are not set count as 0."""


def run_folder(config: Mapping[str, Any]) -> Path:
    """The name of this run's folder: ``run_dir``, else the task and the time. `claimed` makes it."""
    if config["run_dir"]:
        return Path(config["run_dir"])
    stamp = os.environ.setdefault(STAMP, f"{datetime.datetime.now():%Y%m%d-%H%M%S}")
    return Path("runs") / "-".join(config["heads"]) / stamp


@contextmanager
def claimed(config: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of this run, in which no other process trains until this one has left the context or died.

    Without ``run_dir`` it is a new one: where the name is taken, one with a number. Raises `ConfigError` where another
    run is at work, or has left a checkpoint that is not resumed.
    """
    folder = run_folder(config)
    check_writable(folder)
    if not first_process():
        yield folder  # which the first process has made, or will make
        return
    with ExitStack() as stack:
        if not config["run_dir"]:
            folder = _new_folder(folder)
            os.environ[STAMP] = folder.name
        if not config["run_dir"] or not folder.exists():
            stack.callback(_remove_empty, folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(held(folder / RUNNING))
        except BlockingIOError as error:
            raise ConfigError(f"run_dir={folder}: another run is at work there: name a new folder, or wait") from error
        if any(folder.glob("*.ckpt")) and not config["resume"]:
            raise ConfigError(f"run_dir={folder} holds another run: name a new folder, or resume={folder}/last.ckpt")
        yield folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something, as it does but for a run that did not get over its start
        folder.rmdir()


def _new_folder(folder: Path) -> Path:
    """Make a folder by this name, or by the next free one: of several processes, one alone makes each."""
    names = itertools.chain([folder], (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2)))
    for name in names:
        with suppress(FileExistsError):
            name.mkdir(parents=True)
            return name
    raise AssertionError("names do not end")


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
    return all(int(os.environ.get(name, "0")) == 0 for name in RANKS)


def write_config(folder: Path, config: Mapping[str, Any], command: Sequence[str]) -> None:
    """Make the folder and write ``config.yaml``: everything resolved, and the command that gave it."""
    if not first_process():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        resolved = write_mapping({**config, "command": list(command)})
        replace_text(folder / "config.yaml", as_typed(f"# python tools/train.py {shlex.join(command)}\n{resolved}"))
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
