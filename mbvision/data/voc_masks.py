"""Pascal VOC segmentation: the masks of ``SegmentationClass``, and users' own sets of the same shape.

The larger training split ``train_aug`` is read from its list and ``SegmentationClassAug``, or put together from VOC
2012 and the Semantic Boundaries Dataset (SBD, doi:10.1109/ICCV.2011.6126343).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mbvision.data.file_listing import NamedFiles, shown
from mbvision.data.images import MAX_PIXELS
from mbvision.data.mask_colours import VOC_VOID, Colour
from mbvision.data.mask_pixels import Size, check_size
from mbvision.data.masks import (
    Labels,
    MaskItem,
    MaskReader,
    MaskSource,
    labels_of_values,
    mask_file,
    mask_reader,
    mask_scheme,
    voc_palette,
)
from mbvision.data.mat_files import struct_field
from mbvision.data.voc import VOC_CLASSES
from mbvision.data.voc_layout import find_list, list_stems, picture_names
from mbvision.errors import AnnotationError, DataError
from mbvision.files import read_bytes, read_text
from mbvision.structures import MaskScheme

VOC_MASK_CLASSES = ("background", *VOC_CLASSES)

_LIST = "ImageSets/Segmentation/{}.txt"
_AUGMENTED = ("train_aug", "trainaug")
_SBD = "benchmark_RELEASE/dataset"
_MAX_MAT_BYTES = 1024**2  # SBD's largest has about 50 KB; what is in them is compressed


def voc_masks(
    *, root: str | Path, split: str, images: str | Path | None = None, max_pixels: int = MAX_PIXELS
) -> MaskReader:
    """A segmentation split: ``root`` is a devkit or its parent, one year of it, or a user's folder of the same shape.

    ``split`` is ``train``, or names years joined by ``+`` as for boxes. Classes are the official 20 and background, or
    those of a ``labelmap.txt`` beside ``ImageSets``, a line ``name:red,green,blue::`` for each class in the order of
    their values. 255 is ignored. ``images`` overrides where the pictures are looked for. Raises ``DataError``.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(
            f"{base}: there is no such folder; for VOC run `python tools/prepare_data.py data=voc archives=FOLDER "
            f"data.root={base}`, for data of your own check data.root="
        )
    pictures = None if images is None else Path(images)
    groups: list[tuple[str, list[MaskItem]]] = []
    scheme: MaskScheme | None = None
    for part in split.split("+"):
        folder, name = _find_split(base, part.strip())
        own = _scheme(folder)
        if scheme is not None and own != scheme:
            raise DataError(f"{folder}: its labelmap.txt has other classes than the first of the splits {split!r}")
        scheme = own
        items = _split_items(base, folder, name, own, pictures, max_pixels)
        groups.append((folder.name, items))
    assert scheme is not None, "a split has at least one part"
    return mask_reader(_unique(groups), scheme, source=f"{base} {split}", max_pixels=max_pixels)


def _find_split(root: Path, part: str) -> tuple[Path, str]:
    """The folder with ``ImageSets`` of a split, and the split's name in it."""
    year, _, name = part.rpartition("/")
    prefix = f"{year}/" if year else ""
    names = _AUGMENTED if name in _AUGMENTED else (name,)
    sought: list[Path] = []
    for candidate in names:
        folder, _, places = find_list(root, prefix + candidate, _LIST)
        sought += places
        if folder is not None:
            return folder, candidate
    if name in _AUGMENTED:
        folder, _, _ = find_list(root, (prefix or "VOC2012/") + "train", _LIST)
        if folder is not None and _sbd(root, folder) is not None:
            return folder, "train_aug"
    places_text = ", ".join(str(place) for place in sought)
    or_sbd = f", and for {_SBD} beside VOC2012" if name in _AUGMENTED else ""
    raise DataError(f"{root}: no VOC segmentation split {part!r}; looked for {places_text}{or_sbd}")


def _split_items(
    root: Path, folder: Path, name: str, scheme: MaskScheme, images: Path | None, max_pixels: int
) -> list[MaskItem]:
    pictures = images or folder / "JPEGImages"
    if name in _AUGMENTED and not (folder / _LIST.format(name)).is_file():
        return _with_sbd(root, folder, scheme, pictures, max_pixels)
    stems = list_stems(folder / _LIST.format(name))
    if not stems:
        raise DataError(f"{folder / _LIST.format(name)}: lists no picture")
    folders = [folder / "SegmentationClass"]
    if name in _AUGMENTED:
        folders.insert(0, folder / "SegmentationClassAug")
    return _file_items(stems, folders, pictures, scheme, max_pixels)


def _file_items(
    stems: Sequence[str], folders: Sequence[Path], pictures: Path, scheme: MaskScheme, max_pixels: int
) -> list[MaskItem]:
    """Pictures with their masks, each from the first of ``folders`` that has it."""
    places = [NamedFiles(folder) for folder in folders]
    masks: dict[str, tuple[Path, str]] = {}
    for stem in stems:
        found = ((place.folder, file) for place in places if (file := place.find(f"{stem}.png")) is not None)
        if mask := next(found, None):
            masks[stem] = mask
    if missing := [stem for stem in stems if stem not in masks]:
        where = " or ".join(str(folder) for folder in folders)
        raise DataError(
            f"{where}: {len(missing)} of {len(stems)} listed pictures have no mask there (.png): {shown(missing)}"
        )
    return [
        MaskItem(
            image_id=stem,
            image=pictures / name,
            image_root=pictures,
            mask=mask_file(Path(*masks[stem]), root=masks[stem][0], scheme=scheme, max_pixels=max_pixels),
            mask_path=Path(*masks[stem]),
        )
        for stem, name in zip(stems, picture_names(pictures, stems), strict=True)
    ]


def _sbd(root: Path, folder: Path) -> Path | None:
    """SBD's folder ``dataset`` beside the years of VOC, where there is one."""
    places = (root / _SBD, folder / _SBD, folder.parent / _SBD, folder.parent.parent / _SBD)
    return next((place for place in places if place.is_dir()), None)


def _with_sbd(root: Path, folder: Path, scheme: MaskScheme, pictures: Path, max_pixels: int) -> list[MaskItem]:
    """VOC 2012's train and all of SBD that is neither in it nor in VOC 2012's val: 10,582 pictures."""
    sbd = _sbd(root, folder)
    assert sbd is not None, "the split was found by it"
    train, val = (list_stems(folder / _LIST.format(name)) for name in ("train", "val"))
    extra = dict.fromkeys(stem for name in ("train", "val") for stem in list_stems(sbd / f"{name}.txt"))
    stems = [stem for stem in extra if stem not in {*train, *val}]
    names = picture_names(pictures, stems)
    items = _file_items(train, [folder / "SegmentationClass"], pictures, scheme, max_pixels)
    for stem, name in zip(stems, names, strict=True):
        own = (pictures / name).is_file()  # SBD's pictures are those of VOC
        items.append(
            MaskItem(
                image_id=stem,
                image=pictures / name if own else sbd / "img" / f"{stem}.jpg",
                image_root=pictures if own else sbd / "img",
                mask=_mat_file(sbd / "cls" / f"{stem}.mat", scheme),
                mask_path=sbd / "cls" / f"{stem}.mat",
            )
        )
    return items


def _mat_file(path: Path, scheme: MaskScheme) -> MaskSource:
    return partial(read_sbd_mask, path, scheme=scheme)


def read_sbd_mask(path: Path, *, scheme: MaskScheme, size: Size | None = None) -> Labels:
    """The labels of one of SBD's ``cls/*.mat``: the array ``GTcls.Segmentation``; SBD ignores no pixel."""
    content = read_bytes(path, what="MATLAB file of SBD", remedy="unpack SBD anew", max_bytes=_MAX_MAT_BYTES)
    try:
        values = struct_field(content, "GTcls", "Segmentation")
    except ValueError as error:
        raise AnnotationError(f"{path}: no mask of SBD can be read from it: {error}; unpack SBD anew") from error
    check_size(path, (values.shape[0], values.shape[1]), size)
    return labels_of_values(values, scheme, path, remedy="unpack SBD anew")


def _scheme(folder: Path) -> MaskScheme:
    """The official classes, or those of ``labelmap.txt``."""
    file = folder / "labelmap.txt"
    if not file.is_file():
        return mask_scheme(VOC_MASK_CLASSES, source=str(folder), palette=voc_palette(len(VOC_MASK_CLASSES)))
    names, palette = read_labelmap(file)
    return mask_scheme(names, source=str(file), palette=palette)


def read_labelmap(file: Path) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours of CVAT's ``labelmap.txt``; the line with VOC's border colour is no class."""
    lines = read_text(file, what="list of classes").splitlines()
    pairs: list[tuple[str, Colour]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        try:
            red, green, blue = (int(value) for value in rest.split(":")[0].split(","))
        except ValueError as error:
            raise DataError(f"{file}: line {number} is {line[:60]!r}, not name:red,green,blue::") from error
        if not name or not all(0 <= value <= 255 for value in (red, green, blue)):
            raise DataError(f"{file}: line {number} is {line[:60]!r}: no name, or a colour outside 0..255")
        if (red, green, blue) != VOC_VOID:
            pairs.append((name, (red, green, blue)))
    return tuple(name for name, _ in pairs), tuple(colour for _, colour in pairs)


def _unique(groups: Sequence[tuple[str, list[MaskItem]]]) -> list[MaskItem]:
    """All items; ids get the name of their folder in front where two folders use the same one."""
    items = [item for _, group in groups for item in group]
    if len({item.image_id for item in items}) == len(items):
        return items
    return [replace(item, image_id=f"{name}/{item.image_id}") for name, group in groups for item in group]
