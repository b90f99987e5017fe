"""The losses of attributes, embeddings and distillation, by hand."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from mbvision.errors import AnnotationError, ConfigError, TrainingError
from mbvision.heads.embedding import EmbeddingOutput
from mbvision.heads.segmentation import SegmentationOutput
from mbvision.heads.ssdlite import SSDOutput
from mbvision.losses.attributes import attribute_loss
from mbvision.losses.distillation import soft_classes, soft_yes_no
from mbvision.losses.margin import MarginLoss
from mbvision.losses.multibox import MultiBoxLoss
from mbvision.losses.segmentation import SegmentationLoss
from mbvision.structures import Geometry, Target
from mbvision.tasks.attributes import Attributes
from mbvision.tasks.base import Task
from mbvision.tasks.detection import Detection
from mbvision.tasks.embedding import IdentityEmbedding
from mbvision.tasks.segmentation import SemanticSegmentation

SIZE = (64, 64)


def target(**known: Any) -> Target:
    return Target(image_id="a", geometry=Geometry(original=SIZE), **known)


def test_only_known_attributes_count() -> None:
    logits = torch.tensor([[0.0, 2.0, 50.0], [-1.0, -50.0, 3.0]])
    attributes = torch.tensor([[1, 0, 255], [0, 255, 1]], dtype=torch.uint8)
    likelihoods = [0.5, 1 - 1 / (1 + math.exp(-2)), 1 - 1 / (1 + math.exp(1)), 1 / (1 + math.exp(-3))]
    expected = -sum(map(math.log, likelihoods)) / 4
    assert float(attribute_loss(logits, attributes)) == pytest.approx(expected)


def test_nothing_known_is_zero_and_teaches_nothing() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = attribute_loss(logits, torch.full((1, 2), 255, dtype=torch.uint8))
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()
    task = Attributes()
    assert float(task.loss(torch.ones(1, 2), [target()], SIZE)["class"]) == 0


def test_pictures_without_attributes_are_left_out() -> None:
    known = torch.tensor([1, 0], dtype=torch.uint8)
    logits = torch.tensor([[9.0, 9.0], [0.5, -0.5]])
    both = Attributes().loss(logits, [target(), target(attributes=known)], SIZE)["class"]
    assert torch.equal(both, attribute_loss(logits[1:], known[None]))
    with pytest.raises(AnnotationError, match="image a: not the 2 attributes of the network"):
        Attributes().loss(logits, [target(), target(attributes=known[:1])], SIZE)


def test_the_margin_is_asked_of_the_right_identity() -> None:
    vectors = functional.normalize(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), dim=1)
    identities = torch.tensor([[3.0, 0.0], [0.0, 0.5], [-1.0, 0.0]])
    cosines = torch.tensor([[1.0, 0.0, -1.0], [0.6, 0.8, -0.6]])
    shifted = cosines - torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.3, 0.0]])
    expected = functional.cross_entropy(10 * shifted, torch.tensor([0, 1]))
    found = MarginLoss(scale=10.0, margin=0.3)(vectors, identities, torch.tensor([0, 1]))
    torch.testing.assert_close(found, expected)
    for wrong in ({"scale": 0.0}, {"margin": -0.1}, {"margin": 1.0}, {"scale": math.inf}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
            MarginLoss(**wrong)


def test_an_identity_without_a_vector_is_named() -> None:
    task = IdentityEmbedding(loss=MarginLoss())
    output = EmbeddingOutput(functional.normalize(torch.rand(2, 4), dim=1), torch.rand(3, 4))
    with pytest.raises(AnnotationError, match="identity 3, but the network has vectors for 3"):
        task.loss(output, [target(identity=0), target(identity=3)], SIZE)
    assert float(task.loss(output, [target(), target()], SIZE)["identity"]) == 0
    one = task.loss(output, [target(), target(identity=1)], SIZE)["identity"]
    alone = EmbeddingOutput(output.vectors[1:], output.identities)
    torch.testing.assert_close(one, task.loss(alone, [target(identity=1)], SIZE)["identity"])


def test_soft_classes_are_a_divergence_whose_gradient_is_cross_entropys() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    goal = (teacher / 2).softmax(1).detach()
    (expected,) = torch.autograd.grad(4 * functional.cross_entropy(student / 2, goal, reduction="sum"), student)
    found = soft_classes(student, teacher, temperature=2.0)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    torch.testing.assert_close(gradient, expected)
    reference = functional.kl_div((student / 2).log_softmax(1), goal, reduction="none").sum(1) * 4
    torch.testing.assert_close(found, reference)
    torch.testing.assert_close(soft_classes(student, student), torch.zeros(5))


def test_soft_yes_no_is_each_attributes_own_divergence() -> None:
    student, teacher = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([-0.4, 1.0, 5.0])
    pairs = [torch.stack([torch.zeros(3), logits], dim=1) for logits in (student, teacher)]  # as two classes
    torch.testing.assert_close(soft_yes_no(student, teacher, 3.0), soft_classes(*pairs, 3.0))
    assert float(soft_yes_no(student, teacher)[2]) == pytest.approx(0, abs=1e-6)


def test_embeddings_are_taught_by_their_squared_difference() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    task = IdentityEmbedding(loss=MarginLoss())
    found = task.distillation(
        EmbeddingOutput(student, torch.rand(3, 2)), EmbeddingOutput(teacher, torch.rand(9, 2)), SIZE
    )
    assert float(found["vector"]) == pytest.approx((0.4**2 + 0.8**2) / 2)


def test_boxes_are_taught_where_the_teacher_sees_objects() -> None:
    anchors = torch.rand(2, 4)
    logits = torch.tensor([[[0.0, 1.0], [5.0, -5.0]]])
    teacher = torch.tensor([[[-20.0, 20.0], [20.0, -20.0]]])  # an object at the first anchor, surely none at the second
    deltas, goals = torch.zeros(1, 2, 4), torch.tensor([[[0.5, 0.0, 0.0, 2.0], [9.0, 9.0, 9.0, 9.0]]])
    task = Detection(loss=MultiBoxLoss())
    found = task.distillation(SSDOutput(logits, deltas, anchors), SSDOutput(teacher, goals, anchors), SIZE)
    assert float(found["box"]) == pytest.approx(0.5 * 0.5**2 + (2.0 - 0.5))
    assert float(found["class"]) == pytest.approx(math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-10)), rel=1e-4)
    sigmoid = Detection(loss=MultiBoxLoss(classification="sigmoid"), score="sigmoid")
    found = sigmoid.distillation(SSDOutput(logits, deltas, anchors), SSDOutput(teacher, goals, anchors), SIZE)
    assert float(found["class"]) == pytest.approx(math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-5)), rel=1e-4)


def test_pixels_are_taught_by_a_coarser_teacher() -> None:
    torch.manual_seed(0)
    task = SemanticSegmentation(loss=SegmentationLoss())
    coarse, fine = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    found = task.distillation(SegmentationOutput(fine, None), SegmentationOutput(coarse, None), SIZE)["class"]
    goal = functional.interpolate(coarse, (4, 4), mode="bilinear", align_corners=False)
    reference = functional.kl_div(fine.log_softmax(1), goal.softmax(1), reduction="sum") / (2 * 16)
    torch.testing.assert_close(found, reference)


def same_anchors() -> SSDOutput:
    return SSDOutput(torch.rand(1, 2, 4), torch.rand(1, 2, 4), torch.full((2, 4), 0.5))


@pytest.mark.parametrize(
    ("task", "student", "teacher", "message"),
    [
        (Attributes(), torch.rand(1, 3), torch.rand(1, 2), "it has 2 attributes, the network 3"),
        (
            IdentityEmbedding(loss=MarginLoss()),
            EmbeddingOutput(torch.rand(1, 4), torch.rand(2, 4)),
            EmbeddingOutput(torch.rand(1, 8), torch.rand(2, 8)),
            "its embeddings have 8 numbers, the network's 4",
        ),
        (
            SemanticSegmentation(loss=SegmentationLoss()),
            SegmentationOutput(torch.rand(1, 3, 2, 2), None),
            SegmentationOutput(torch.rand(1, 5, 2, 2), None),
            "it has 5 classes, the network 3",
        ),
        (
            Detection(loss=MultiBoxLoss()),
            same_anchors(),
            same_anchors()._replace(logits=torch.rand(1, 2, 9)),
            "it has 8 classes, the network 3",
        ),
        (
            Detection(loss=MultiBoxLoss()),
            same_anchors(),
            same_anchors()._replace(anchors=torch.full((2, 4), 0.4)),
            "its 2 anchors are not the 2 of the network",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_says_how(task: Task[Any, Any], student: Any, teacher: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        task.distillation(student, teacher, SIZE)
