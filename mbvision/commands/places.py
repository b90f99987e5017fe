"""Files and folders that a configuration names: they must be there before anything slow is begun."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbvision.errors import ConfigError

_FILES = ("pretrained", "backbone.weights", "resume", "distill", "checkpoint")
STARTS = ("pretrained", "backbone.weights")
"""Keys of weights to start from: names that are fetched, too, and nothing that a run which is resumed reads."""
_DRAWN = ("mbvision.data.scenes.", "mbvision.data.crops.", "mbvision.data.portraits.")
_MOST_LISTED = 10_000


def check_places(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` with key, path and the nearest name that there is."""
    for key in _FILES:
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if key in STARTS and (config.get("resume") or str(node).startswith("torchvision:")):
            continue
        if isinstance(node, str):
            _check(key, node, is_folder=False)
    if config.get("distill_pictures"):
        _check("distill_pictures", config["distill_pictures"], is_folder=True)
    for number, data in enumerate(config["data"]["sets"] or [config["data"]]):
        key = f"data.sets[{number}]" if config["data"]["sets"] else "data"
        if not _is_drawn(data):
            _check(f"{key}.root", data["root"], is_folder=True)
        elif Path(data["root"]).parent == Path("/"):
            _check(f"{key}.root", data["root"], is_folder=True, more=", and the built-in set is not drawn there")
        if data["images"] is not None:
            _check(f"{key}.images", data["images"], is_folder=True)


def check_writable(key: str, path: Path) -> None:
    """Raise `ConfigError` where the file that ``key`` names could not be written; its folder is made."""
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{key}={path}: the folder cannot be made: {error.strerror}") from error
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{key}={path} cannot be written; name a file in a folder of yours")


def _is_drawn(data: Mapping[str, Any]) -> bool:
    return all(reader["_target_"].startswith(_DRAWN) for reader in data["readers"].values())


def _check(key: str, value: Any, *, is_folder: bool, more: str = "") -> None:
    path = Path(str(value))
    try:
        there = path.is_dir() if is_folder else path.exists()
    except ValueError:  # a null character
        there = False
    if there:
        return
    what = "folder" if is_folder else "file"
    raise ConfigError(f"{key}={value}: there is no such {what}{more}{_nearest(path)}; {_remedy(key)}")


def _remedy(key: str) -> str:
    return (
        f"unpack the data set there (tools/prepare_data.py), or check {key}="
        if key.endswith(".root")
        else f"check {key}="
    )


def _nearest(path: Path) -> str:
    """The most similar path beside the missing one."""
    while path != path.parent and not path.parent.is_dir():
        path = path.parent
    try:
        names = os.listdir(path.parent)[:_MOST_LISTED]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f", did you mean {path.parent / close[0]}?" if close else ""
