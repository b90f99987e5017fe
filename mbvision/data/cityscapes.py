"""Cityscapes (arXiv:1604.01685): streets in 19 classes, from the official tree of ``leftImg8bit`` and ``gtFine``.

Files hold label ids 0..33; of these 19 are classes ("train ids" 0..18) and the others are ignored.
"""

import logging
from pathlib import Path
from typing import Literal, NamedTuple

from mbvision.data.file_listing import list_files, shown
from mbvision.data.images import MAX_PIXELS
from mbvision.data.masks import MaskItem, MaskReader, MaskSource, mask_file, mask_reader
from mbvision.errors import ConfigError, DataError
from mbvision.structures import IGNORE, MaskScheme


class CityscapesClass(NamedTuple):
    """One class: its id in ``labelIds`` files, its category and its RGB colour."""

    name: str
    label_id: int
    category: str
    colour: tuple[int, int, int]


CLASSES = (  # the data set's own table of labels (cityscapesscripts 2.3.0, helpers.labels), in the order of train ids
    CityscapesClass("road", 7, "flat", (128, 64, 128)),
    CityscapesClass("sidewalk", 8, "flat", (244, 35, 232)),
    CityscapesClass("building", 11, "construction", (70, 70, 70)),
    CityscapesClass("wall", 12, "construction", (102, 102, 156)),
    CityscapesClass("fence", 13, "construction", (190, 153, 153)),
    CityscapesClass("pole", 17, "object", (153, 153, 153)),
    CityscapesClass("traffic light", 19, "object", (250, 170, 30)),
    CityscapesClass("traffic sign", 20, "object", (220, 220, 0)),
    CityscapesClass("vegetation", 21, "nature", (107, 142, 35)),
    CityscapesClass("terrain", 22, "nature", (152, 251, 152)),
    CityscapesClass("sky", 23, "sky", (70, 130, 180)),
    CityscapesClass("person", 24, "human", (220, 20, 60)),
    CityscapesClass("rider", 25, "human", (255, 0, 0)),
    CityscapesClass("car", 26, "vehicle", (0, 0, 142)),
    CityscapesClass("truck", 27, "vehicle", (0, 0, 70)),
    CityscapesClass("bus", 28, "vehicle", (0, 60, 100)),
    CityscapesClass("train", 31, "vehicle", (0, 80, 100)),
    CityscapesClass("motorcycle", 32, "vehicle", (0, 0, 230)),
    CityscapesClass("bicycle", 33, "vehicle", (119, 11, 32)),
)
LAST_ID = 33

_IDS = tuple(c.label_id for c in CLASSES)
SCHEME = MaskScheme(
    class_names=tuple(c.name for c in CLASSES),
    stored=_IDS,
    ignored=tuple(label_id for label_id in range(LAST_ID + 1) if label_id not in _IDS),
    palette=tuple(c.colour for c in CLASSES),
    categories=tuple(c.category for c in CLASSES),
)
"""Of ``labelIds`` files. They hold no 255: the licence plate's id -1 is never drawn."""

TRAIN_ID_SCHEME = MaskScheme(
    class_names=SCHEME.class_names,
    stored=tuple(range(len(CLASSES))),
    ignored=(IGNORE,),
    palette=SCHEME.palette,
    categories=SCHEME.categories,
)
"""Of ``labelTrainIds`` files, which the official tools make."""

_KINDS: dict[str, tuple[MaskScheme, str]] = {  # the preferred one first
    "labelTrainIds": (TRAIN_ID_SCHEME, "train ids are 0..18 and 255; label ids belong into files named _labelIds.png"),
    "labelIds": (SCHEME, "label ids are 0..33; train ids (with 255) belong into files named _labelTrainIds.png"),
}
_SUFFIXES = (".png", ".jpg")
_logger = logging.getLogger(__name__)


def cityscapes(
    *,
    root: str | Path,
    split: str,
    annotation: Literal["fine", "coarse"] = "fine",
    images: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskReader:
    """A split: ``train``, ``val``, ``train_extra`` (coarse only), or several joined by ``+``.

    ``images`` overrides the folder ``leftImg8bit``. Image ids are ``CITY_SEQUENCE_FRAME``. A ``labelTrainIds`` file is
    taken before the ``labelIds`` file of the same picture. Raises ``DataError``, or ``ConfigError`` for the test split,
    whose annotations are dummies.
    """
    if annotation not in ("fine", "coarse"):
        raise ConfigError(f"data.readers.segmentation.annotation={annotation}: choose fine or coarse")
    kind = "gtFine" if annotation == "fine" else "gtCoarse"
    base = next((b for b in (Path(root), Path(root) / "cityscapes") if (b / kind).is_dir()), None)
    if base is None:
        raise DataError(
            f"{root}: no folder {kind} there; unpack {kind}{'_trainvaltest' if annotation == 'fine' else ''}.zip and "
            "leftImg8bit_trainvaltest.zip of Cityscapes into it, or check data.root="
        )
    pictures = base / "leftImg8bit" if images is None else Path(images)
    items: list[MaskItem] = []
    for name in (part.strip() for part in split.split("+")):
        _check_split(name, annotation)
        items += _split_items(base / kind / name, pictures / name, kind, max_pixels)
    return mask_reader(items, SCHEME, source=f"{base} {split}", max_pixels=max_pixels)


def _check_split(name: str, annotation: str) -> None:
    if name == "test":
        raise ConfigError("the annotations of Cityscapes' test split are dummies: score on val")
    choices = ("train", "val") if annotation == "fine" else ("train", "val", "train_extra")
    if name not in choices:
        extra = "; train_extra has coarse annotations only" if name == "train_extra" else ""
        raise ConfigError(f"Cityscapes has no {annotation} split {name!r}; choose {', '.join(choices)}{extra}")


def _split_items(masks: Path, pictures: Path, kind: str, max_pixels: int) -> list[MaskItem]:
    """The pictures of one split that have a mask; the others of either side are told."""
    for folder in (masks, pictures):
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder; unpack the archive with it, or check data.root=")
    mask_files, picture_files = _files(masks), _files(pictures)
    mask_of: dict[str, tuple[Path, str]] = {}
    for label_kind in reversed(_KINDS):
        ending = f"_{kind}_{label_kind}.png"
        mask_of |= {f.name.removesuffix(ending): (f, label_kind) for f in mask_files if f.name.endswith(ending)}
    picture_of: dict[str, Path] = {}
    for suffix in reversed(_SUFFIXES):
        ending = f"_leftImg8bit{suffix}"
        picture_of |= {f.name.removesuffix(ending): f for f in picture_files if f.name.endswith(ending)}
    stems = sorted(mask_of.keys() & picture_of.keys())
    if not stems:
        raise DataError(
            f"{masks}: none of its {len(mask_of)} masks (_{kind}_labelIds.png) belongs to one of the "
            f"{len(picture_of)} pictures (_leftImg8bit.png) in {pictures}"
        )
    _tell(masks, "masks without a picture in " + str(pictures), mask_of.keys() - picture_of.keys())
    _tell(pictures, "pictures without a mask in " + str(masks), picture_of.keys() - mask_of.keys())
    return [
        MaskItem(
            image_id=stem,
            image=picture_of[stem],
            image_root=pictures,
            mask=_source(*mask_of[stem], root=masks, max_pixels=max_pixels),
            mask_path=mask_of[stem][0],
        )
        for stem in stems
    ]


def _source(path: Path, label_kind: str, *, root: Path, max_pixels: int) -> MaskSource:
    scheme, remedy = _KINDS[label_kind]
    return mask_file(path, root=root, scheme=scheme, max_pixels=max_pixels, remedy=remedy)


def _files(folder: Path) -> list[Path]:
    """The files of all cities; the polygons beside the masks are passed over without a word."""
    listing = list_files(folder, (*_SUFFIXES, ".json"))
    listing.warn_of_passed_over()
    return [folder / name for name in listing.names]


def _tell(folder: Path, what: str, stems: set[str]) -> None:
    if stems:
        _logger.warning("%s: %s, left out: %d (%s)", folder, what, len(stems), shown(sorted(stems)))
