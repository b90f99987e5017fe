"""Small sets of faces for the tests: CelebA's files by hand, folders of identities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("Smiling", "Eyeglasses", "Male")


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 6, 3), value, dtype=np.uint8)).save(path)


def write_celeba(root: Path, *, values: Sequence[str], splits: str, identities: Sequence[int] = ()) -> Path:
    """CelebA's official text files, for as many pictures as there are ``values`` (a row each, as ``1 -1 1``)."""
    files = [f"{number:06d}.jpg" for number in range(1, len(values) + 1)]
    for number, file in enumerate(files):
        picture(root / "img_align_celeba" / file, 10 * number)
    rows = [f"{file} {row}" for file, row in zip(files, values, strict=True)]
    (root / "list_attr_celeba.txt").write_text("\n".join([str(len(files)), " ".join(NAMES) + " ", *rows, ""]))
    partition = [f"{file} {split}" for file, split in zip(files, splits, strict=True)]
    (root / "list_eval_partition.txt").write_text("\n".join([*partition, ""]))
    if identities:
        lines = [f"{file} {identity}" for file, identity in zip(files, identities, strict=True)]
        (root / "identity_CelebA.txt").write_text("\n".join([*lines, ""]))
    return root


def write_identities(root: Path, counts: dict[str, int]) -> Path:
    """``NAME/NAME_0001.jpg`` and so on, as LFW has them."""
    for name, count in counts.items():
        for number in range(1, count + 1):
            picture(root / name / f"{name}_{number:04d}.jpg", 20 * number)
    return root
