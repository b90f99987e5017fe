"""What a teacher's outputs teach (arXiv:1503.02531, arXiv:1704.04861 sections 4.6 and 4.7).

Cross-entropies are less the teacher's own entropy, which no student can change: 0 means that both agree, and the
gradients are those of the cross-entropy. The teacher's outputs carry no gradient.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mbvision.losses.normalizer import loss_divisor


def soft_classes(
    logits: Float[Tensor, "*rows C"], teacher: Float[Tensor, "*rows C"], temperature: float = 1.0
) -> Float[Tensor, "*rows"]:
    """The divergence of class probabilities, in each row.

    Both logits are divided by ``temperature``, and the result multiplied by its square, so that gradients keep their
    size (arXiv:1503.02531, section 2).
    """
    goal = functional.log_softmax(teacher.detach().float() / temperature, dim=-1)
    found = functional.log_softmax(logits.float() / temperature, dim=-1)
    return temperature**2 * (goal.exp() * (goal - found)).sum(dim=-1)


def soft_yes_no(
    logits: Float[Tensor, "*rows"], teacher: Float[Tensor, "*rows"], temperature: float = 1.0
) -> Float[Tensor, "*rows"]:
    """The divergence of independent probabilities, each a sigmoid of its logit; ``temperature`` as above."""
    teacher = teacher.detach().float() / temperature
    goal = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(logits.float() / temperature, goal, reduction="none")
    own = functional.binary_cross_entropy_with_logits(teacher, goal, reduction="none")
    return temperature**2 * (cross - own)


def soft_detections(
    classes: Float[Tensor, "B A"],
    deltas: Float[Tensor, "B A 4"],
    teacher_deltas: Float[Tensor, "B A 4"],
    foreground: Float[Tensor, "B A"],
) -> dict[str, Tensor]:
    """The losses of an SSD head, summed over anchors and divided by how many objects' anchors the teacher sees.

    ``classes`` is the divergence of each anchor, ``foreground`` the teacher's probability that it is no background,
    by which smooth L1 on the deltas is weighted: it stands for the matched anchors of the labels' loss.
    """
    foreground = foreground.detach()
    number = loss_divisor(foreground.sum(), minimum=1)
    boxes = functional.smooth_l1_loss(deltas.float(), teacher_deltas.detach().float(), reduction="none").sum(dim=-1)
    return {"box": (boxes * foreground).sum() / number, "class": classes.sum() / number}


def squared_difference(vectors: Float[Tensor, "B D"], teacher: Float[Tensor, "B D"]) -> Tensor:
    """The mean over the batch of the squared distances between embeddings (arXiv:1704.04861, section 4.7)."""
    difference = vectors.float() - teacher.detach().float()
    return torch.square(difference).sum(dim=1).mean()
