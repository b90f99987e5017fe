"""What a head's output means: its loss, its predictions and its metric."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor

from mbvision.structures import Target

if TYPE_CHECKING:
    from torchmetrics import Metric

OutputT = TypeVar("OutputT")
PredictionT = TypeVar("PredictionT")


class Task(ABC, Generic[OutputT, PredictionT]):
    """One meaning for one head. ``weight`` is its share of the summed loss; ``metric`` is what training maximises."""

    weight: float
    metric: str
    temperature: float = 1.0
    """Of distillation: what softens the probabilities of both networks."""

    @abstractmethod
    def loss(self, outputs: OutputT, targets: Sequence[Target], input_size: tuple[int, int]) -> dict[str, Tensor]:
        """Named scalar losses; images that lack this task's annotation do not count."""

    @abstractmethod
    def distillation(
        self, outputs: OutputT, teacher_outputs: OutputT, input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Named scalar losses between a student's outputs and a frozen teacher's for the same images.

        Raises `TrainingError` where the two do not fit, saying how "it", the teacher, differs.
        """

    @abstractmethod
    def predict(self, outputs: OutputT, input_size: tuple[int, int]) -> list[PredictionT]:
        """One prediction for each image of the batch, in pixels of the input."""

    @abstractmethod
    def evaluator(self, annotations: Any) -> "Metric":
        """A fresh metric over a data set with these annotations."""
