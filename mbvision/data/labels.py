"""Pictures with one class each: what readers of labels have in common, and the reader of listed files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mbvision.data.base import Reader
from mbvision.data.images import MAX_PIXELS, read_image
from mbvision.errors import DataError
from mbvision.structures import Geometry, LabelAnnotations, Sample, Target

_MOST_SHOWN = 5


class LabelReader(Reader, ABC):
    """A data set whose samples have a class."""

    @abstractmethod
    def with_class_order(self, names: Sequence[str]) -> "LabelReader":
        """The reader with its labels in the order of a network's, or another split's, class names.

        Raises ``DataError`` naming the classes that only one of them has.
        """


class FileReader(LabelReader):
    """Picture files below a folder, each with its label; ids are the paths in that folder, with ``/``.

    ``files`` are those paths as bytes: an array of them takes a tenth of the memory of a list of texts, and is not
    copied into each loader's process. Links to files and to folders are followed.
    """

    def __init__(
        self,
        *,
        folder: Path,
        files: np.ndarray,
        labels: Int[np.ndarray, " I"],
        class_names: Sequence[str],
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.class_names: Mapping[str, Sequence[str]] = {"classification": tuple(class_names)}
        self._folder, self._files, self._labels, self._max_pixels = folder, files, labels, max_pixels

    def __len__(self) -> int:
        return len(self._files)

    @property
    def truth(self) -> Mapping[str, Any]:
        """The labels of all pictures."""
        annotations = LabelAnnotations(
            class_names=tuple(self.class_names["classification"]),
            image_ids=tuple(os.fsdecode(name) for name in self._files.tolist()),
            labels=self._labels,
        )
        return {"classification": annotations}

    def path(self, index: int) -> Path:
        """The file of one picture."""
        return self._folder / os.fsdecode(self._files[index])

    def read(self, index: int) -> Sample:
        """The picture with its label; raises ``ImageError``."""
        image = read_image(self.path(index), max_pixels=self._max_pixels)
        target = Target(
            image_id=os.fsdecode(self._files[index]),
            geometry=Geometry(original=(image.shape[0], image.shape[1])),
            label=int(self._labels[index]),
        )
        return Sample(image=image, target=target, path=str(self.path(index)))

    def with_class_order(self, names: Sequence[str]) -> "FileReader":
        """The same pictures with the labels that ``names`` give their classes."""
        own = self.class_names["classification"]
        if tuple(names) == tuple(own):
            return self
        return FileReader(
            folder=self._folder,
            files=self._files,
            labels=class_places(own, names, str(self._folder))[self._labels],
            class_names=names,
            max_pixels=self._max_pixels,
        )


def class_places(own: Sequence[str], names: Sequence[str], source: str) -> Int[np.ndarray, " C"]:
    """Where each of a data set's own classes stands in ``names``. Raises ``DataError`` unless they are the same."""
    parts = [
        f"{what} {_shown(sorted(set(some) - set(others)))}"
        for what, some, others in (("only here:", own, names), ("missing here:", names, own))
        if set(some) - set(others)
    ]
    if parts:
        raise DataError(f"{source}: its classes are not those of the training split or the network; {'; '.join(parts)}")
    where = {name: label for label, name in enumerate(names)}
    return np.array([where[name] for name in own], dtype=np.int64)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
