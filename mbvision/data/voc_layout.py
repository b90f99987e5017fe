"""Where a Pascal VOC data set has its splits, XML files and pictures: devkits, single years, and users' own folders."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mbvision.data.file_listing import comparable, find_stems, leads_inside, list_files, without_suffix
from mbvision.data.image_kinds import SUFFIXES
from mbvision.errors import AnnotationError, DataError
from mbvision.files import read_text

_LIST = "ImageSets/Main/{}.txt"


class VocItem(NamedTuple):
    """One picture of a split: its id, its XML file, and its picture file in a folder."""

    image_id: str
    xml: Path
    folder: Path
    file_name: str


def find_items(root: Path, split: str, images: Path | None = None) -> tuple[list[VocItem], list[Path]]:
    """The pictures of a split, and the XML files of all splits beside it, from which the class names are read.

    ``split`` is a name such as ``train``, or names folders too: ``VOC2007/trainval+VOC2012/trainval``.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: there is no such folder; for VOC run `python tools/prepare_data.py data=voc archives=FOLDER "
            f"data.root={root}`, for data of your own check data.root="
        )
    groups, xml_files = [], []
    for part in split.split("+"):
        folder, name = _split_folder(root, part.strip())
        if (folder / _LIST.format(name)).is_file():
            items = year_items(folder, name, images)
            xml_files += sibling_files(folder)
        else:
            items = _beside(folder / name, images)
            xml_files += [folder / xml for xml in _xml_files(folder).values() if "/" in xml]
        groups.append((folder.name, items))
    return _with_unique_ids(groups), xml_files


def year_items(folder: Path, split: str, images: Path | None = None) -> list[VocItem]:
    """The pictures that ``ImageSets/Main/SPLIT.txt`` lists, in its order; raises ``DataError``."""
    file = folder / _LIST.format(split)
    pictures = images or folder / "JPEGImages"
    stems = list_stems(file)
    if not stems:
        raise DataError(f"{file}: lists no picture")
    if len(set(stems)) < len(stems):
        twice = next(stem for number, stem in enumerate(stems) if stem in stems[:number])
        raise AnnotationError(f"{file}: lists {twice!r} twice; remove one")
    names = picture_names(pictures, stems)
    xml, xml_of = folder / "Annotations", _xml_files(folder / "Annotations")
    return [
        VocItem(stem, xml / xml_of.get(comparable(stem), f"{stem}.xml"), pictures, name)
        for stem, name in zip(stems, names, strict=True)
    ]


def sibling_files(folder: Path) -> list[Path]:
    """The existing XML files of all splits of a year, once each; lists of one class (``car_train``) add nothing."""
    files = sorted((folder / _LIST).parent.glob("*.txt"))
    splits = {file.stem for file in files}
    stems: dict[str, None] = {}
    for file in files:
        prefix, _, suffix = file.stem.rpartition("_")
        if not (prefix and suffix in splits):
            stems |= dict.fromkeys(list_stems(file))
    xml_of = _xml_files(folder / "Annotations")
    return [folder / "Annotations" / xml_of[key] for stem in stems if (key := comparable(stem)) in xml_of]


def find_list(root: Path, part: str, lists: str) -> tuple[Path | None, str, list[Path]]:
    """The folder whose ``lists`` (``ImageSets/.../{}.txt``) names a split, the split's name, and where it was sought.

    ``part`` is ``train`` or ``VOC2012/train``; the folder is None where no list is found.
    """
    year, _, name = part.rpartition("/")
    bases = [base / year for base in (root, root / "VOCdevkit")]
    if not year:
        bases += sorted(child for base in (root, root / "VOCdevkit") for child in base.glob("VOC*") if child.is_dir())
    bases = list(dict.fromkeys(bases))
    found = [base for base in bases if (base / lists.format(name)).is_file()]
    if len(found) > 1 and root not in found:
        years = " or ".join(f"{base.name}/{name}" for base in found)
        raise DataError(f"{root}: the split {name!r} is in several years; say which: {years}, or both joined by '+'")
    return found[0] if found else None, name, [base / lists.format(name) for base in bases]


def _split_folder(root: Path, part: str) -> tuple[Path, str]:
    """The folder of a split, and the name of the split in it."""
    folder, name, sought = find_list(root, part, _LIST)
    if folder is not None:
        return folder, name
    year = part.rpartition("/")[0]
    if _xml_files(root / year / name):
        return root / year, name
    places = ", ".join(str(place) for place in sought)
    raise DataError(f"{root}: no VOC split {part!r}; looked for {places} and for XML files in {root / year / name}")


def _beside(folder: Path, images: Path | None) -> list[VocItem]:
    """A split that is a folder of XML files with the pictures beside them, in sub-folders too."""
    list_files(folder, (".xml", *SUFFIXES)).warn_of_passed_over()
    files = list(_xml_files(folder).values())
    stems = [without_suffix(file) for file in files]
    names = picture_names(images or folder, stems)
    return [
        VocItem(stem, folder / file, images or folder, name)
        for stem, file, name in zip(stems, files, names, strict=True)
    ]


def _xml_files(folder: Path) -> dict[str, str]:
    """The XML files below a folder by their path without suffix; nothing where there is no such folder."""
    return list_files(folder, (".xml",)).by_stem() if folder.is_dir() else {}


def list_stems(file: Path) -> list[str]:
    """The names in a split file, one a line; a picture's suffix is taken off."""
    lines = [line.strip() for line in read_text(file, what="list of a split").splitlines()]
    stems = [line[: line.rindex(".")] if line.lower().endswith(SUFFIXES) else line for line in lines if line]
    for stem in stems:
        if not leads_inside(stem):
            raise AnnotationError(f"{file}: {stem[:60]!r} leads out of the data set; list bare names")
    return stems


def picture_names(folder: Path, stems: Sequence[str]) -> list[str]:
    """The file of each stem; ``.jpg`` where there is none, which then is an error when it is read."""
    return [file or stem + ".jpg" for stem, file in zip(stems, find_stems(folder, stems, SUFFIXES), strict=True)]


def _with_unique_ids(groups: Iterable[tuple[str, list[VocItem]]]) -> list[VocItem]:
    """All items; ids get the name of their folder in front where two folders use the same one."""
    groups = list(groups)
    items = [item for _, group in groups for item in group]
    if len({item.image_id for item in items}) == len(items):
        return items
    named = [item._replace(image_id=f"{name}/{item.image_id}") for name, group in groups for item in group]
    if len({item.image_id for item in named}) < len(named):
        raise DataError("a split is named twice in its '+' list, or two of its splits share pictures")
    return named
