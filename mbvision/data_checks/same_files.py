"""Image files that validation and training both read, found by their paths: no image is opened."""

import os
from collections.abc import Mapping

from mbvision.data.base import Reader
from mbvision.data.file_listing import real_path
from mbvision.data_checks.findings import Finding


def same_files(train: Reader, val: Reader) -> list[int]:
    """The places in ``val`` of the images whose file is one that ``train`` reads; links are followed.

    A link in training to a validation file of another name is not seen: training's files are looked at by name first.
    """
    places: dict[str, list[int]] = {}
    for index in range(len(val)):
        places.setdefault(real_path(val.path(index)), []).append(index)
    names = {os.path.basename(file) for file in places}
    paths = (train.path(index) for index in range(len(train)))
    shared = {file for path in paths if path.name in names and (file := real_path(path)) in places}
    return sorted(index for file in shared for index in places[file])


def check_same_files(readers: Mapping[str, Reader], others: Mapping[str, Reader]) -> list[Finding]:
    """A finding for each validation image of ``readers`` whose file the training split of ``others`` reads."""
    if "val" not in readers or "train" not in others:
        return []
    val = readers["val"]
    return [
        Finding(
            cause="same_picture_across",
            split="val",
            file=str(val.path(index)),
            detail="the same file" + ("" if readers is others else " as in the training split of another set"),
            picture=index,
        )
        for index in same_files(others["train"], val)
    ]
