"""Pictures without labels behind those of a data set: a teacher's outputs are all that is learnt from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.data.base import Reader
from mbvision.data.file_listing import list_files
from mbvision.data.image_kinds import SUFFIXES
from mbvision.data.images import MAX_PIXELS, read_image
from mbvision.errors import DataError
from mbvision.structures import Geometry, Sample, Target


class WithUnlabelled(Reader):
    """A reader's samples, then every picture of ``folder``, however deep, with nothing known about it.

    Raises `DataError` if there is none.
    """

    def __init__(self, labelled: Reader, folder: Path, *, max_pixels: int = MAX_PIXELS) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder; check distill_pictures=")
        listing = list_files(folder, SUFFIXES)
        listing.warn_of_passed_over()
        self.paths = [folder / name for name in listing.names]
        if not self.paths:
            raise DataError(f"{folder}: it holds no picture; check distill_pictures=")
        self.labelled, self.folder, self.max_pixels = labelled, folder, max_pixels
        self.class_names: Mapping[str, Sequence[str]] = labelled.class_names

    def __len__(self) -> int:
        return len(self.labelled) + len(self.paths)

    @property
    def truth(self) -> Mapping[str, Any]:
        """That of the labelled pictures."""
        return self.labelled.truth

    @property
    def parts(self) -> tuple[Reader, ...]:
        """The reader of the labelled pictures."""
        return (self.labelled,)

    def path(self, index: int) -> Path:
        """The file of one image."""
        own = len(self.labelled)
        return self.labelled.path(index) if index < own else self.paths[index - own]

    def read(self, index: int) -> Sample:
        """A sample of the reader, or a picture alone; raises ``DataError``."""
        if index < len(self.labelled):
            return self.labelled.read(index)
        path = self.paths[index - len(self.labelled)]
        image = read_image(path, max_pixels=self.max_pixels)
        target = Target(
            image_id=f"unlabelled/{path.relative_to(self.folder)}", geometry=Geometry(original=image.shape[:2])
        )
        return Sample(image=image, target=target, path=str(path))
