"""What every data set on disk offers; nothing here is random."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.structures import Sample


class Reader(ABC):
    """A data set on disk: ``len(reader)`` samples, each read when it is asked for."""

    class_names: Mapping[str, Sequence[str]]
    """The names of the classes in the order of their labels, by the task which they belong to."""

    @property
    def parts(self) -> "tuple[Reader, ...]":
        """The readers that this one is made of; none where it reads files itself."""
        return ()

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def path(self, index: int) -> Path:
        """The file of image ``index``."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Sample ``index``, from disk; raises ``DataError`` (often ``ImageError``) when it cannot be used."""

    @property
    @abstractmethod
    def truth(self) -> Mapping[str, Any]:
        """What each task's predictions are scored against, by task: `BoxAnnotations`, `MaskAnnotations`."""
