"""Where a COCO data set has its JSON file and its pictures: the official layout, and the usual ones of users' sets."""

from collections.abc import Sequence
from pathlib import Path

from mbvision.data.file_listing import NamedFiles
from mbvision.errors import DataError

_TRIED_PICTURES = 10
"""So many file names are looked for in a folder, so that one missing picture does not hide the right folder."""


def find_annotations(root: Path, split: str, annotations: str | Path | None = None) -> Path:
    """The JSON file of a split below ``root``, or ``annotations`` where given; raises ``DataError``."""
    if annotations is not None:
        return _existing(Path(annotations), "data.annotations=", is_folder=False)
    if not root.is_dir():
        raise DataError(
            f"{root}: there is no such folder; for COCO run `python tools/prepare_data.py data=coco archives=FOLDER "
            f"data.root={root}`, for data of your own check data.root="
        )
    if split.endswith(".json"):
        places = [root / split]
    else:
        patterns = (
            "annotations/instances_{}.json",
            "annotations/{}.json",
            "instances_{}.json",
            "{}.json",
            "{}/_annotations.coco.json",  # Roboflow
            "annotations/image_info_{}.json",  # COCO's test images
        )
        places = [base / pattern.format(split) for base in _bases(root) for pattern in patterns]
    return _first(places, f"{root}: no COCO file for the split {split!r}", "check data.root= and the name of the split")


def find_images(
    root: Path, split: str, file: Path, file_names: Sequence[str], images: str | Path | None = None
) -> Path:
    """The folder below ``root``, or below ``images``, with the first pictures of ``file``; raises ``DataError``."""
    bases = _bases(root) if images is None else [_existing(Path(images), "data.images=", is_folder=True)]
    name = Path(split).stem.removeprefix("instances_").removeprefix("image_info_")
    whole = name.replace("test-dev", "test")  # COCO's test-dev is a part of the images in test
    below = (name, whole, f"images/{name}", f"images/{whole}", "images", "JPEGImages", f"{name}/images", ".")
    folders = [base / folder for base in bases for folder in below]
    if images is None:
        folders.append(file.parent)
    for folder in dict.fromkeys(folders):
        files = NamedFiles(folder)
        if any(files.find(file_name) is not None for file_name in file_names[:_TRIED_PICTURES]):
            return folder
    places = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    raise DataError(f"{file}: its picture {file_names[0]!r} is in none of {places}; say where by data.images=FOLDER")


def _bases(root: Path) -> list[Path]:
    inner = root / "coco"
    return [root, inner] if inner.is_dir() else [root]


def _existing(path: Path, key: str, *, is_folder: bool) -> Path:
    if path.is_dir() if is_folder else path.is_file():
        return path
    raise DataError(f"{key}{path}: there is no such {'folder' if is_folder else 'file'}")


def _first(places: Sequence[Path], what: str, remedy: str) -> Path:
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"{what}; looked for {', '.join(str(place) for place in places)}; {remedy}")
