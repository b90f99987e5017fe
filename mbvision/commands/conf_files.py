"""The YAML files under ``conf/`` that a command line chooses: each is checked before Hydra reads it."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mbvision.data.yaml_files import read_mapping
from mbvision.errors import AnnotationError, ConfigError
from mbvision.files import read_bytes

_PACKAGE = re.compile(r"#\s*@package\s+(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfFile:
    """What one file states: ``content`` as it stands in the whole configuration, and the files it is based on."""

    path: Path
    version: tuple[int, int]
    content: Mapping[str, Any]
    defaults: Sequence[Any]


def conf_folder() -> Path:
    """Where the configurations are: inside an installed package, else beside it."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def choices(group: str) -> list[str]:
    """The names that a group of ``conf/`` has to choose from."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def read_conf(group: str, choice: str) -> ConfFile:
    """The file ``conf/GROUP/CHOICE.yaml``; of the commands' own files the group is empty.

    Raises `ConfigError` for what is not plain YAML: a tab, a key twice, a list, a reference, another encoding.
    """
    path = conf_folder() / group / f"{choice}.yaml"
    status = path.stat()
    return _read(path, group, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=256)
def _read(path: Path, group: str, version: tuple[int, int]) -> ConfFile:
    try:
        content = read_mapping(path, what="configuration", texts=("classes",))
    except AnnotationError as error:
        raise ConfigError(str(error)) from error
    defaults = content.pop("defaults", [])
    if not isinstance(defaults, list):
        raise ConfigError(f"{path}: defaults={defaults}: give a list, such as [default, _self_]")
    text = read_bytes(path, what="configuration").decode()
    if text.startswith("\ufeff"):  # Hydra would not see the package in the line behind it
        raise ConfigError(f"{path}: begins with a byte order mark; save it as UTF-8 without one")
    named = _PACKAGE.match(text.lstrip())
    package = group.replace("/", ".") if named is None or named[1] == "_group_" else named[1]
    for part in reversed([] if package == "_global_" else [part for part in package.split(".") if part]):
        content = {part: content}
    return ConfFile(path=path, version=version, content=content, defaults=defaults)


def read_files(name: str, groups: Sequence[tuple[str, str]]) -> list[ConfFile]:
    """Every file that the command ``name`` with a choice of groups is composed of, those of the choice first.

    Raises `ConfigError` for the first that is no plain YAML, or is based on itself.
    """
    Place = tuple[str, str]
    pending: deque[tuple[Place, tuple[Place, ...]]] = deque((place, ()) for place in [*groups, ("", name)])
    files: dict[Place, ConfFile] = {}
    while pending:
        place, above = pending.popleft()
        path = conf_folder() / place[0] / f"{place[1]}.yaml"
        if place in above:
            raise ConfigError(f"{path}: its defaults lead back to it; take that entry out")
        if place in files or not path.is_file():
            continue  # Hydra names what there is not
        files[place] = read_conf(*place)
        pending += [(other, (*above, place)) for other in _based_on(files[place], place[0])]
    return list(files.values())


def _based_on(file: ConfFile, group: str) -> Iterator[tuple[str, str]]:
    """Group and name of each file in a list of defaults, as Hydra reads it."""
    for entry in file.defaults:
        pairs = entry.items() if isinstance(entry, dict) else [(None, entry)]
        for key, value in pairs:
            if "${" in str(value):
                raise ConfigError(f"{file.path}: defaults: {value}: write the name out")
            words = [] if key is None else str(key).replace("optional ", "").replace("override ", "").split("@")
            where = (
                group if not words else words[0].strip("/") if "/" in words[0] or not group else f"{group}/{words[0]}"
            )
            for choice in value if isinstance(value, list) else [value]:
                place, _, stem = str(choice).rpartition("/")
                yield (
                    (place.strip("/") if str(choice).startswith("/") else "/".join(filter(None, (where, place)))),
                    stem,
                )
