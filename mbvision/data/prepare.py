"""Unpacks the official archives of the known data sets and checks what came out; nothing is ever downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mbvision.data.archives import extract
from mbvision.errors import ConfigError, DataError
from mbvision.files import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An official archive: its file name, about how large it is, the page that offers it, and its MD5."""

    name: str
    size: str
    page: str
    md5: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialSet:
    """A data set's archives and what they hold, by path below the root.

    A folder counts its files, a ``.txt`` its lines, any other file counts 1.
    """

    archives: tuple[Archive, ...]
    contents: Mapping[str, int]
    folder: str = ""
    """The folder that the archives themselves bring, which the root may end with."""


_COCO = "https://cocodataset.org/#download"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/"

_VOC2007 = OfficialSet(
    archives=(
        Archive(
            name="VOCtrainval_06-Nov-2007.tar",
            size="439 MB",
            page=_VOC + "voc2007/",
            md5="c52e279531787c972589f7e41ab4ae64",
        ),
        Archive(
            name="VOCtest_06-Nov-2007.tar",
            size="431 MB",
            page=_VOC + "voc2007/",
            md5="b6e924de25625d8de591ea690078ad9f",
        ),
    ),
    contents={  # http://host.robots.ox.ac.uk/pascal/VOC/voc2007/dbstats.html
        "VOC2007/JPEGImages": 9963,
        "VOC2007/Annotations": 9963,
        "VOC2007/ImageSets/Main/trainval.txt": 5011,
        "VOC2007/ImageSets/Main/test.txt": 4952,
    },
    folder="VOCdevkit",
)
_VOC2012 = OfficialSet(
    archives=(
        Archive(
            name="VOCtrainval_11-May-2012.tar",
            size="1.9 GB",
            page=_VOC + "voc2012/",
            md5="6cd6e144f989b92b3379bac3b3de84fd",
        ),
    ),
    contents={  # http://host.robots.ox.ac.uk/pascal/VOC/voc2012/dbstats.html
        "VOC2012/JPEGImages": 17125,
        "VOC2012/ImageSets/Main/trainval.txt": 11540,
        "VOC2012/ImageSets/Segmentation/trainval.txt": 2913,
    },
    folder="VOCdevkit",
)

OFFICIAL: dict[str, OfficialSet] = {
    "coco": OfficialSet(
        archives=(
            Archive(name="train2017.zip", size="18 GB", page=_COCO, md5="cced6f7f71b7629ddf16f17bbcfab6b2"),
            Archive(name="val2017.zip", size="0.8 GB", page=_COCO, md5="442b8da7639aecaf257c1dceb8ba8c80"),
            Archive(
                name="annotations_trainval2017.zip",
                size="241 MB",
                page=_COCO,
                md5="f4bbac642086de4f52a3fdda2de5fa2c",
            ),
        ),
        contents={
            "train2017": 118287,
            "val2017": 5000,
            "annotations/instances_train2017.json": 1,
            "annotations/instances_val2017.json": 1,
        },
    ),
    "voc": OfficialSet(
        archives=_VOC2007.archives + _VOC2012.archives,
        contents={**_VOC2007.contents, **_VOC2012.contents},
        folder="VOCdevkit",
    ),
    "voc2007": _VOC2007,
    "voc2012": _VOC2012,
}


def describe(name: str) -> str:
    """The archives of a data set, one to a line: file name, size, and the page that offers it."""
    lines = [f"{archive.name} ({archive.size}) from {archive.page}" for archive in _official(name).archives]
    return "\n".join(lines)


def prepare(name: str, archives: Path, root: Path, *, progress: bool = True) -> dict[str, int]:
    """Unpack a data set's archives, which lie in the folder ``archives``, to ``root``; returns what was counted there.

    A root that already holds everything is left alone. Raises ``DataError`` for archives that are missing (each with
    its size and its page) or damaged, and for contents that are not complete afterwards.
    """
    official = _official(name)
    counts = _count(official, root)
    if counts == dict(official.contents):
        return counts
    missing = [archive for archive in official.archives if not (archives / archive.name).is_file()]
    if missing:
        listed = ", ".join(f"{archive.name} ({archive.size}) from {archive.page}" for archive in missing)
        raise DataError(f"{archives}: put these archives there, then run this again: {listed}")
    into = root.parent if official.folder and root.name == official.folder else root
    for archive in official.archives:
        extract(archives / archive.name, into, checksum=archive.md5, progress=progress)
    counts = _count(official, root)
    wrong = [
        f"{path}: {counts[path]} of {wanted}" for path, wanted in official.contents.items() if counts[path] != wanted
    ]
    if wrong:
        raise DataError(f"{root}: not complete after unpacking: {', '.join(wrong)}; remove it and run this again")
    return counts


def _official(name: str) -> OfficialSet:
    if name not in OFFICIAL:
        raise ConfigError(f"data={name} has no official archives; there are {', '.join(OFFICIAL)}")
    return OFFICIAL[name]


def _count(official: OfficialSet, root: Path) -> dict[str, int]:
    base = root if not official.folder or root.name == official.folder else root / official.folder
    return {path: _size(base / path) for path in official.contents}


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(1 for child in path.iterdir() if child.is_file())
    if path.suffix == ".txt" and path.is_file():
        return len(read_text(path, what="list").split())
    return int(path.is_file())
