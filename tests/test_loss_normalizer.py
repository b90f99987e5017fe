"""Gradients do not depend on how a batch is split over processes, unless a recipe asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from mbvision.build import build_network, build_tasks
from mbvision.commands.train import configure
from mbvision.errors import ConfigError
from mbvision.losses.attributes import attribute_loss
from mbvision.losses.classification import ClassificationLoss
from mbvision.losses.distillation import soft_detections
from mbvision.losses.margin import MarginLoss
from mbvision.losses.multibox import MultiBoxLoss
from mbvision.losses.segmentation import SegmentationLoss
from mbvision.structures import IGNORE, Geometry, Target
from tests.tiny_runs import SMALLEST

REPOSITORY = Path(__file__).resolve().parent.parent
SIZE = 64
HEADS = {"ssdlite": "detection", "lraspp": "segmentation"}
PARTS = {1: [[0, 1, 2, 3, 4, 5]], 2: [[0, 1, 2, 3], [4, 5]], 4: [[0], [1, 2, 3], [4], [5]]}
"""Which of six images each process gets; 4 has neither box nor labelled pixel, and 5 no annotation at all."""


def images_and_targets() -> tuple[Tensor, list[Target]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    targets = []
    for image_id, number in enumerate((1, 9, 3, 1, 0, 0)):
        corners = torch.rand(number, 2, generator=generator) * 30
        boxes = torch.cat([corners, corners + 12 + 20 * torch.rand(number, 2, generator=generator)], dim=1)
        mask = torch.randint(3, (SIZE, SIZE), generator=generator, dtype=torch.uint8)
        mask[number * 7 :] = IGNORE
        known = {"boxes": boxes, "box_labels": torch.arange(number) % 3, "mask": mask} if image_id < 5 else {}
        targets.append(Target(image_id=image_id, geometry=Geometry(original=(SIZE, SIZE)), **known))
    return images, targets


def gradients(task: str, normalizer: str, rank: int, world_size: int) -> Tensor:
    """All gradients after the backward pass of this process's part of the batch, averaged as in training."""
    torch.manual_seed(0)
    name = HEADS[task]
    config, _ = configure([f"task={task}", *SMALLEST, f"tasks.{name}.loss.normalizer={normalizer}"])
    network = build_network(config, {name: 3}).double()
    images, targets = images_and_targets()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # the statistics of these images: those of the start let nothing through
    network(images)
    network.eval()  # no dropout, and no statistics of a part of the batch
    wrapped: nn.Module = DistributedDataParallel(network) if world_size > 1 else network
    part = PARTS[world_size][rank]
    losses = build_tasks(config)[name].loss(wrapped(images[part])[name], [targets[i] for i in part], (SIZE, SIZE))
    torch.stack(list(losses.values())).sum().backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def other_gradients(rank: int, world_size: int) -> dict[str, Tensor]:
    """Gradients of the outputs of one layer under the losses whose count depends on what is known of the images."""
    generator = torch.Generator().manual_seed(1)
    outputs, labels = torch.randn(6, 4, generator=generator), torch.randint(3, (6,), generator=generator)
    known = torch.tensor([[1, 0, 1], [1, IGNORE, IGNORE], [IGNORE] * 3, [0, 1, IGNORE], [1, 1, 0], [IGNORE] * 3])
    part = PARTS[world_size][rank]
    labelled = [image for image in part if image not in (2, 4)]
    found = {}
    for name in ("attributes", "class", "identity", "distillation"):
        layer = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
        logits = outputs @ layer
        if name == "attributes":
            loss = attribute_loss(logits[part], known[part].byte())
        elif name == "class":
            loss = ClassificationLoss()(logits[labelled], functional.one_hot(labels[labelled], 3).float())["class"]
        elif name == "identity":
            loss = MarginLoss()(functional.normalize(outputs[labelled], dim=1), layer.T, labels[labelled])
        else:
            deltas, goals = (tensor[part][:, None].expand(-1, 3, 4) for tensor in (outputs, outputs + 2))
            loss = soft_detections(logits[part], deltas * layer.mean(), goals, 2 * outputs[part, :3].sigmoid())["box"]
        loss.backward()
        assert layer.grad is not None
        if world_size > 1:
            dist.all_reduce(layer.grad)
        found[name] = layer.grad / world_size
    return found


def _write_gradients(rank: int, folder: str) -> None:
    for world_size in (4, 2):
        if rank >= world_size:
            return
        dist.init_process_group("gloo", init_method=f"file://{folder}/{world_size}", rank=rank, world_size=world_size)
        found = {
            (task, normalizer): gradients(task, normalizer, rank, world_size)
            for task in HEADS
            for normalizer in ("global", "process")
        }
        torch.save(found | other_gradients(rank, world_size), f"{folder}/{world_size}_{rank}.pt")
        dist.destroy_process_group()


def fork_four_processes(folder: str) -> None:
    """Called in a process of its own, which imports everything once for all of them."""
    torch.set_num_threads(1)
    mp.start_processes(_write_gradients, args=(folder,), nprocs=4, start_method="fork")


def test_gradients_of_a_batch_do_not_depend_on_how_many_processes_share_it(tmp_path: Path) -> None:
    code = f"from tests.test_loss_normalizer import fork_four_processes as run; run({str(tmp_path)!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, check=True, timeout=300)
    whole, others = {task: gradients(task, "global", 0, 1) for task in HEADS}, other_gradients(0, 1)
    for world_size in (2, 4):
        for rank in range(world_size):
            found = torch.load(tmp_path / f"{world_size}_{rank}.pt", weights_only=True)
            for task, expected in whole.items():
                error = {kind: (found[task, kind] - expected).abs().max() for kind in ("global", "process")}
                assert error["global"] <= 1e-6 * expected.abs().max(), (task, world_size, rank)
                assert error["process"] > 0.1 * expected.abs().max(), "uneven parts differ where each has its own count"
            for name, expected in others.items():
                torch.testing.assert_close(found[name], expected, msg=f"{name} on {world_size} processes")


def test_an_unknown_normalizer_is_refused_with_the_choices() -> None:
    for loss in (MultiBoxLoss, SegmentationLoss):
        with pytest.raises(ConfigError, match=r"normalizer='replica': choose global or process"):
            loss(normalizer="replica")  # type: ignore[arg-type]  # a wrong value on purpose
