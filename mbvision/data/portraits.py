"""The built-in faces: drawn people with attributes, written to disk as CelebA is, and so read.

The people of training and validation are different ones. A set is drawn once: ``portraits.json`` in its folder says
what it was drawn with.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mbvision.data.celeba import celeba
from mbvision.data.faces import FaceReader
from mbvision.data.images import MAX_PIXELS
from mbvision.data.portraits_drawing import ATTRIBUTES, draw_identity, draw_portrait
from mbvision.errors import DataError
from mbvision.writing import temporary_folder

TRAIN_PEOPLE, VAL_PEOPLE, PICTURES = 600, 75, 8
"""People of each split, and the pictures of each of them."""
VERSION = 1
_QUALITY = 92
_STAMP = "portraits.json"


def portraits(
    *, root: str | Path, split: str, images: str | Path | None = None, max_pixels: int = MAX_PIXELS
) -> FaceReader:
    """The reader of a split (train, val) of the set in ``root``, which is drawn first if it is not there."""
    make_portraits(Path(root))
    return celeba(root=root, split=split, images=images, max_pixels=max_pixels)


def make_portraits(
    root: Path,
    *,
    train_people: int = TRAIN_PEOPLE,
    val_people: int = VAL_PEOPLE,
    pictures: int = PICTURES,
    seed: int = 0,
) -> None:
    """Draw a set into ``root``, unless it is there already.

    Raises `DataError` if the folder holds anything else; nothing is ever deleted.
    """
    root = Path(root)
    wanted = {
        "version": VERSION,
        "train_people": train_people,
        "val_people": val_people,
        "pictures": pictures,
        "seed": seed,
    }
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        _check_stamp(root, wanted)
        return
    try:
        with temporary_folder(root) as new:
            _draw(new, (train_people, val_people), pictures, seed)
            (new / _STAMP).write_text(json.dumps(wanted), encoding="utf-8")
            if root.exists():
                root.rmdir()  # an empty folder
            os.replace(new, root)
    except OSError as error:
        if not (root / _STAMP).is_file():  # else another process was faster
            raise DataError(f"{root}: faces cannot be written there: {error.strerror}; set data.root=") from error
    _check_stamp(root, wanted)


def _check_stamp(root: Path, wanted: dict[str, int]) -> None:
    stamp = root / _STAMP
    if not stamp.is_file():
        raise DataError(f"{root} holds something else than the built-in faces: name another folder with data.root=")
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{stamp} is damaged: remove {root}, or name another folder with data.root=") from error
    if found != wanted:
        raise DataError(f"{root} holds other faces than these: remove it, or name another folder with data.root=")


def _draw(root: Path, people: tuple[int, int], pictures: int, seed: int) -> None:
    """All pictures, numbered as CelebA's, and the three files of annotations."""
    folder = root / "img_align_celeba"
    folder.mkdir(parents=True)
    attributes: list[str] = []
    partition: list[str] = []
    identities: list[str] = []
    numbers = range(sum(people))
    for person in tqdm(numbers, desc="drawing faces", unit="person", mininterval=1):
        split = int(person >= people[0])
        # Whoever is drawn depends on the split and the place in it alone, not on how large the other split is.
        source = (seed, split, person - split * people[0])
        who = draw_identity(np.random.default_rng(source))
        for number in range(pictures):
            file = f"{len(partition) + 1:06d}.jpg"
            portrait = draw_portrait(
                who, np.random.default_rng((*source, 1 + number))
            )  # a 0 at the end counts for nothing
            _, data = cv2.imencode(".jpg", portrait.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
            (folder / file).write_bytes(data.tobytes())  # cv2.imwrite would not say that the disk is full
            attributes.append(" ".join([file, *(" 1" if has else "-1" for has in portrait.attributes)]))
            partition.append(f"{file} {split}")
            identities.append(f"{file} {person + 1}")
    tables = {
        "list_attr_celeba": [str(len(attributes)), " ".join(ATTRIBUTES), *attributes],
        "list_eval_partition": partition,
        "identity_CelebA": identities,
    }
    for name, lines in tables.items():
        (root / f"{name}.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
