"""Pictures and masks in plain folders, and the list of their classes: users' own sets, CamVid.

Layouts: ``images/SPLIT`` beside ``masks/SPLIT`` (or ``labels``, ``annotations``), ``SPLIT/images`` beside
``SPLIT/masks``, ``SPLIT`` beside ``SPLITannot``, or ``images`` and ``masks`` with lists ``splits/SPLIT.txt``.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mbvision.data.file_listing import comparable, list_files, shown
from mbvision.data.image_kinds import SUFFIXES
from mbvision.data.images import MAX_PIXELS
from mbvision.data.mask_colours import Colour
from mbvision.data.masks import MaskItem, MaskReader, mask_file, mask_reader, mask_scheme
from mbvision.data.voc_layout import list_stems
from mbvision.errors import DataError
from mbvision.files import read_text
from mbvision.structures import IGNORE, MaskScheme

_MASK_FOLDERS = ("masks", "labels", "annotations")
_EXAMPLE = '["background", "cat"]'
_logger = logging.getLogger(__name__)


def masks_folder(
    *,
    root: str | Path,
    split: str,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    classes: Sequence[str] | str | Path | None = None,
    void: int | Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskReader:
    """The pictures of a split that have a mask of the same name, whatever the suffixes, in sub-folders too.

    ``images`` and ``masks`` override the folders; in them ``SPLIT`` is looked for first. ``classes`` are the names in
    the order of the mask values, or a file: ``classes.txt`` (a name a line), or ``classes.json``, a list of names or an
    object with ``classes``, and perhaps ``palette`` (a colour for each class, for masks in colours) and ``void_index``
    (a value to ignore, or several); without it, such a file in ``root``. ``void`` are more values to ignore than 255.
    Raises ``DataError``.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"{base}: there is no such folder; check data.root=")
    scheme = _scheme(base, classes, void)
    pictures_in, masks_in = _folders(base, split, images, masks)
    picture_of, mask_of = _by_stem(pictures_in), _by_stem(masks_in)
    stems = _paired(base, split, (pictures_in, picture_of), (masks_in, mask_of))
    items = [
        MaskItem(
            image_id=stem,
            image=pictures_in / picture_of[stem],
            image_root=None,
            mask=mask_file(masks_in / mask_of[stem], root=None, scheme=scheme, max_pixels=max_pixels),
            mask_path=masks_in / mask_of[stem],
        )
        for stem in stems
    ]
    return mask_reader(items, scheme, source=f"{base} {split}", max_pixels=max_pixels)


class _Folders(NamedTuple):
    pictures: Path
    masks: Path


def _folders(root: Path, split: str, images: str | Path | None, masks: str | Path | None) -> _Folders:
    """The first pair of folders that exists; with a list of the split they may hold other splits too."""
    listed = (root / f"splits/{split}.txt").is_file()
    if images is not None or masks is not None:
        picture_folders = _given(images, split, listed) if images is not None else _usual(root, split, "images", listed)
        mask_folders = (
            _given(masks, split, listed)
            if masks is not None
            else [folder for name in _MASK_FOLDERS for folder in _usual(root, split, name, listed)]
        )
        pairs = [_Folders(p, m) for p in picture_folders for m in mask_folders]
    else:
        pairs = [_Folders(root / "images" / split, root / name / split) for name in _MASK_FOLDERS]
        pairs += [_Folders(root / split / "images", root / split / name) for name in _MASK_FOLDERS]
        pairs += [_Folders(root / split, root / f"{split}annot")]
        pairs += [_Folders(root / "images", root / name) for name in _MASK_FOLDERS if listed]
    for pair in pairs:
        if pair.pictures.is_dir() and pair.masks.is_dir():
            return pair
    places = "; ".join(f"{pair.pictures} with {pair.masks}" for pair in pairs)
    raise DataError(
        f"{root}: no pictures with masks for the split {split!r}; looked for {places}; set data.images= or a list "
        f"splits/{split}.txt of names"
    )


def _given(folder: str | Path, split: str, listed: bool) -> list[Path]:
    """A folder that the user names is the split's own where it has none for the split."""
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder; check data.images= and the reader's masks=")
    return [path / split, path]


def _usual(root: Path, split: str, name: str, listed: bool) -> list[Path]:
    return [root / name / split, root / split / name, *([root / name] if listed else [])]


def _by_stem(folder: Path) -> dict[str, str]:
    """The image files below a folder by their path without suffix."""
    listing = list_files(folder, SUFFIXES)
    listing.warn_of_passed_over()
    return listing.by_stem()


def _paired(
    root: Path, split: str, pictures: tuple[Path, dict[str, str]], masks: tuple[Path, dict[str, str]]
) -> list[str]:
    """The names that have both; what a list names must have both, else what has not is told and left out."""
    file = root / f"splits/{split}.txt"
    listed = [comparable(stem) for stem in list_stems(file)] if file.is_file() else None
    for (folder, there), (other_folder, other), what in (
        (pictures, masks, "pictures without a mask"),
        (masks, pictures, "masks without a picture"),
    ):
        names = list(there) if listed is None else listed
        lone = [stem for stem in names if stem in there and stem not in other]
        absent = [stem for stem in listed or () if stem not in there and stem not in other]
        for missing, text in ((lone, f"{what} of the same name in {other_folder}"), (absent, "not there, nor a mask")):
            if not missing:
                continue
            if listed is not None:
                raise DataError(f"{folder}: {text}, though {file} lists them: {len(missing)} ({shown(missing)})")
            _logger.warning("%s: %s, left out: %d (%s)", folder, text, len(missing), shown(missing))
    stems = [s for s in (listed if listed is not None else pictures[1]) if s in pictures[1] and s in masks[1]]
    if not stems:
        raise DataError(
            f"{pictures[0]}: none of its {len(pictures[1])} pictures has a mask of the same name in {masks[0]}, which "
            f"holds {len(masks[1])}"
        )
    return stems


def _scheme(root: Path, classes: Sequence[str] | str | Path | None, void: int | Sequence[int] | None) -> MaskScheme:
    given = (void,) if isinstance(void, int) else tuple(void or ())
    if classes is not None and not isinstance(classes, str | Path):
        return mask_scheme(classes, source="classes", ignored=(IGNORE, *given))
    files = [root / "classes.json", root / "classes.txt"] if classes is None else [Path(classes)]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        raise DataError(
            f"{files[0]}: there is no such list of classes; write one, with the names in the order of the mask values, "
            f"such as {_EXAMPLE}"
        )
    if file.suffix == ".txt":
        names = [line.strip() for line in _text(file).splitlines()]
        return mask_scheme([name for name in names if name], source=str(file), ignored=(IGNORE, *given))
    return _json_scheme(file, given)


def _text(file: Path) -> str:
    return read_text(file, what="list of classes")


def _json_scheme(file: Path, void: tuple[int, ...]) -> MaskScheme:
    try:
        content = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON ({error}); write a list of names, such as {_EXAMPLE}") from error
    table: dict[str, Any] = {"classes": content} if isinstance(content, list) else content
    names = table.get("classes") if isinstance(table, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{file}: has no list of class names; write one, such as {_EXAMPLE}")
    own = table.get("void_index")
    indices = [] if own is None else own if isinstance(own, list) else [own]
    if not all(type(index) is int for index in indices):
        raise DataError(f"{file}: void_index is {str(own)[:40]}, it must be a whole number or a list of them")
    ignored = (IGNORE, *indices, *void)
    scheme = mask_scheme(names, source=str(file), ignored=ignored)
    palette = _palette(file, table.get("palette"), scheme.stored)
    return mask_scheme(names, source=str(file), ignored=ignored, palette=palette)


def _palette(file: Path, colours: Any, stored: Sequence[int]) -> tuple[Colour, ...] | None:
    """The classes' colours; a palette with an entry for each class goes by label, a longer one by mask value."""
    if colours is None:
        return None
    wrong = not isinstance(colours, list) or not all(
        isinstance(c, list) and len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in colours
    )
    if wrong or (len(colours) != len(stored) and len(colours) <= max(stored)):
        raise DataError(f"{file}: palette must hold [red, green, blue] of 0..255 for each of the {len(stored)} classes")
    chosen = colours if len(colours) == len(stored) else [colours[value] for value in stored]
    return tuple((c[0], c[1], c[2]) for c in chosen)
