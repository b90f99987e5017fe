"""Detection and segmentation on one backbone: costs, losses of sets labelled for one task, metrics, checkpoints."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import mbvision
from mbvision.build import build_network, build_tasks
from mbvision.commands import evaluate, predict, run, train
from mbvision.commands.costs import joint_costs
from mbvision.commands.train import configure
from mbvision.data.scenes import make_scenes
from mbvision.structures import Geometry, Target
from tests.tiny_runs import SMALLEST

TINY = ["task=[ssdlite,lraspp]", *SMALLEST]
CLASSES = {"detection": 3, "segmentation": 4}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("joint") / "scenes"
    make_scenes(root, train_images=8, val_images=5)
    return root


def sets(scenes: Path) -> str:
    """Boxes of the first half of the world, masks of the second: two sets, each labelled for one task."""
    boxes = f"{{name: coco, root: {scenes}, tasks: [detection]}}"
    masks = f"{{name: cityscapes, root: {scenes}/cityscapes}}"
    return f"data.sets=[{boxes}, {masks}]"


def test_the_joint_network_costs_the_two_less_the_shared_trunk() -> None:
    config, _ = configure(["task=[ssdlite,lraspp]", "backbone=mobilenet_v3_large"])
    costs = joint_costs(config, CLASSES)
    trunks = [
        {layer.name: layer.madds for layer in costs[name].layers if layer.name.startswith("backbone.")}
        for name in CLASSES
    ]
    shared = sum(madds for name, madds in trunks[0].items() if name in trunks[1])
    apart = costs["detection"].madds + costs["segmentation"].madds
    assert shared > 0.5 * costs["segmentation"].madds
    assert costs["joint"].madds == apart - shared


def target(number: int, *, boxes: bool, mask: bool) -> Target:
    return Target(
        image_id=number,
        geometry=Geometry(original=(64, 64)),
        boxes=torch.tensor([[8.0, 8.0, 40.0, 44.0]]) if boxes else None,
        box_labels=torch.tensor([1]) if boxes else None,
        mask=torch.full((64, 64), 2, dtype=torch.uint8) if mask else None,
    )


def gradients(config: dict[str, Any], images: torch.Tensor, targets: list[Target]) -> dict[str, float]:
    """The largest gradient of the last layer of each head, with running statistics, so that images stay apart."""
    torch.manual_seed(0)
    network, tasks = build_network(config, CLASSES).eval(), build_tasks(config)
    outputs = network(images)
    losses = [loss for name, task in tasks.items() for loss in task.loss(outputs[name], targets, (64, 64)).values()]
    torch.stack(losses).sum().backward()
    return {
        name: max(float(p.grad.abs().max()) for p in head.parameters() if p.grad is not None)
        for name, head in network.heads.items()
    }


def test_a_head_gets_no_gradient_from_pictures_without_its_labels() -> None:
    config, _ = configure(TINY)
    images = torch.rand(2, 3, 64, 64)
    assert gradients(config, images, [target(i, boxes=True, mask=False) for i in range(2)])["segmentation"] == 0
    assert gradients(config, images, [target(i, boxes=False, mask=True) for i in range(2)])["detection"] == 0
    mixed = [target(0, boxes=True, mask=False), target(1, boxes=False, mask=True)]
    both = gradients(config, images, mixed)
    alone = gradients(config, images[:1], mixed[:1])
    assert both["detection"] == pytest.approx(alone["detection"], rel=1e-5)  # the second picture adds nothing
    assert both["segmentation"] > 0


def test_one_command_trains_scores_and_predicts_both(scenes: Path, tmp_path: Path) -> None:
    data = ["data=voc", f"data.root={scenes}"]
    assert run(train.main, ["trainer=debug", *TINY, *data, f"run_dir={tmp_path}/run"]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert {"AP", "AP50", "mIoU", "pixel_accuracy"} <= set(metrics)
    assert set(metrics["per_class"]["disc"]) >= {"AP", "IoU"} and "IoU" in metrics["per_class"]["background"]
    picture = next((scenes / "val2017").iterdir())
    result = mbvision.load(tmp_path / "run/best.ckpt").predict(picture)
    height, width = cv2.imread(str(picture)).shape[:2]
    assert result.mask is not None and result.mask.shape == (height, width) and result.boxes.shape[1] == 4
    output = tmp_path / "found"
    assert run(predict.main, [f"checkpoint={tmp_path}/run/best.ckpt", f"source={picture}", f"output={output}"]) == 0
    assert np.array_equal(cv2.imread(str(output / f"{picture.stem}.png"), 0), result.mask)
    found = json.loads((output / f"{picture.stem}.json").read_text())
    assert sum(found["pixels"].values()) == height * width and "detections" in found


def test_two_sets_labelled_for_one_task_each(scenes: Path, tmp_path: Path) -> None:
    assert run(train.main, ["trainer=debug", *TINY, sets(scenes), f"run_dir={tmp_path}/run"]) == 0
    checkpoint = f"checkpoint={tmp_path}/run/best.ckpt"
    output = tmp_path / "m.json"
    common = ["loader.workers=0", "samples=0", f"output={output}"]
    assert run(evaluate.main, [checkpoint, sets(scenes), *common]) == 0
    both = json.loads(output.read_text())
    assert both["images"] == both["images_total"] == 10  # five for each task
    boxes = ["data=coco", f"data.root={scenes}", "tasks=[detection]"]
    for data, metric in ((["data=cityscapes", f"data.root={scenes}/cityscapes"], "mIoU"), (boxes, "AP50")):
        assert run(evaluate.main, [checkpoint, *data, *common]) == 0
        assert json.loads(output.read_text())[metric] == both[metric]
