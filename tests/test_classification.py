"""The classification task: its loss, soft classes of a teacher, predictions."""

import pytest
import torch
from torch.nn import functional

from mbvision.errors import AnnotationError, ConfigError, TrainingError
from mbvision.losses.classification import ClassificationLoss
from mbvision.structures import Geometry, Target
from mbvision.tasks.classification import Classification

SIZE = (32, 32)


def task(smoothing: float = 0.1) -> Classification:
    return Classification(loss=ClassificationLoss(label_smoothing=smoothing))


def target(label: int | None = None, shares: torch.Tensor | None = None) -> Target:
    return Target(image_id="a.jpg", geometry=Geometry(original=SIZE), label=label, label_shares=shares)


def logits(count: int, classes: int = 5) -> torch.Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_labels_cost_torchs_cross_entropy(smoothing: float) -> None:
    outputs, labels = logits(4), [0, 4, 2, 2]
    found = task(smoothing).loss(outputs, [target(label) for label in labels], SIZE)
    expected = functional.cross_entropy(outputs, torch.tensor(labels), label_smoothing=smoothing)
    assert list(found) == ["class"]
    torch.testing.assert_close(found["class"], expected)


def test_mixed_pictures_cost_the_shares_of_their_labels() -> None:
    outputs = logits(3)
    shares = torch.tensor([[0.3, 0.0, 0.0, 0.7, 0.0], [0.0, 0.5, 0.5, 0.0, 0.0]])
    found = task(0.0).loss(outputs, [target(shares=shares[0]), target(1), target(shares=shares[1])], SIZE)["class"]
    logs = outputs.log_softmax(dim=1)
    by_hand = -(0.3 * logs[0, 0] + 0.7 * logs[0, 3] + logs[1, 1] + 0.5 * logs[2, 1] + 0.5 * logs[2, 2]) / 3
    torch.testing.assert_close(found, by_hand)


def test_images_without_a_label_do_not_count() -> None:
    outputs = logits(3)
    alone = task().loss(outputs[1:2], [target(3)], SIZE)["class"]
    among = task().loss(outputs, [target(), target(3), target()], SIZE)["class"]
    torch.testing.assert_close(among, alone)
    (gradient,) = torch.autograd.grad(among, outputs)
    assert gradient[1].abs().sum() > 0 and gradient[[0, 2]].abs().sum() == 0
    nothing = task().loss(outputs, [target()] * 3, SIZE)["class"]
    assert nothing == 0 and torch.autograd.grad(nothing, outputs)[0].abs().sum() == 0


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_that_is_no_class_is_named_with_its_image(label: int) -> None:
    with pytest.raises(
        AnnotationError, match=rf"image a\.jpg: its label is {label}, the network has 5 classes, 0 to 4"
    ):
        task().loss(logits(2), [target(1), target(label)], SIZE)


def test_a_teacher_is_followed_by_softened_classes() -> None:
    student, teacher = logits(3), torch.randn(3, 5, generator=torch.Generator().manual_seed(7))
    taught = task()
    taught.temperature = 3.0
    found = taught.distillation(student, teacher, SIZE)["class"]
    p, q = (teacher / 3).softmax(dim=1), (student / 3).softmax(dim=1)
    torch.testing.assert_close(found, 9 * (p * (p / q).log()).sum() / 3)
    torch.testing.assert_close(task().distillation(student, student.detach(), SIZE)["class"], torch.tensor(0.0))
    (gradient,) = torch.autograd.grad(found, student)
    torch.testing.assert_close(gradient, 9 / 3 / 3 * (q - p).detach())  # of sum p log(p / softmax(s / T)) by s


def test_predictions_are_the_probabilities_of_each_image() -> None:
    outputs = logits(2)
    first, second = task().predict(outputs, SIZE)
    torch.testing.assert_close(torch.stack([first.scores, second.scores]), outputs.detach().softmax(dim=1))


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"label_smoothing=1\.5: must be in 0\.\.1"):
        task(1.5)


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(TrainingError, match="it has 7 classes, the network 5"):
        task().distillation(logits(2), logits(2, 7), SIZE)
