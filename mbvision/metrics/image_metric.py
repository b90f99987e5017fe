"""A metric over the images of a data set, whichever process saw them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import distributed
from torchmetrics import Metric

from mbvision.errors import DataError
from mbvision.structures import Target

Counted = TypeVar("Counted")


class ImageMetric(Metric, ABC, Generic[Counted]):
    """Keeps what was counted of each image of ``image_ids``, each once.

    An image given twice, as padding of a distributed sampler does, keeps its first copy, and images are scored in the
    data set's order: so the numbers depend neither on the order of updates nor on the number of processes.

    What is kept is no torchmetrics state: its gathering wants tensors of every process, and a process may have had no
    image at all. ``compute`` gathers, so every process has to call it.
    """

    full_state_update = False

    def __init__(self, image_ids: Sequence[int | str]) -> None:
        super().__init__(sync_on_compute=False)
        self._places = {image_id: place for place, image_id in enumerate(image_ids)}
        self._images: dict[int, Counted] = {}

    @property
    def update_called(self) -> bool:
        """Always true: a process without images is as good as any, and torchmetrics would warn of it."""
        return True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not supported: numbers of one batch mean nothing."""
        raise NotImplementedError("call update() for each batch and compute() at the end")

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._images.clear()

    @abstractmethod
    def update(self, predictions: Sequence[Any], targets: Sequence[Target]) -> None:
        """Take the predictions of a batch."""

    @abstractmethod
    def compute(self) -> dict[str, Any]:
        """The main numbers, ``images`` (scored) and ``images_total``; equal in every process."""

    def place(self, target: Target) -> int:
        """Where an image stands in the data set. Raises DataError if it does not."""
        place = self._places.get(target.image_id)
        if place is None:
            raise DataError(
                f"image id {target.image_id!r} is not in the annotations of {len(self._places)} images; "
                "evaluate the data set that the annotations belong to"
            )
        return place

    def gathered(self) -> dict[int, Counted]:
        """The images of every process, each once (its copy in the lowest rank), by place; every process calls it."""
        parts: list[Any] = [self._images]
        if distributed.is_available() and distributed.is_initialized():
            parts = [None] * distributed.get_world_size()
            distributed.all_gather_object(parts, self._images)
        merged: dict[int, Counted] = {}
        for part in reversed(parts):
            merged |= part
        return dict(sorted(merged.items()))
