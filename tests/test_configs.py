"""Every configuration under conf/ composes, builds, learns a step, predicts, exports and survives its checkpoint."""

from pathlib import Path

import pytest
import torch
import yaml

from mbvision import checkpoint
from mbvision.build import ALLOWED, build_network, build_tasks, deferred, input_size, locate
from mbvision.commands.compose import conf_folder
from mbvision.commands.train import configure
from mbvision.engine.optim import parameter_groups
from mbvision.errors import ConfigError
from mbvision.structures import Geometry, Target

CONF = conf_folder()
BACKBONES = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml"))
TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


HEADS = ("classification", "detection", "segmentation", "attributes", "embedding")
CLASSES = {head: ["a", "b", "c"] for head in HEADS}
COUNTS = {name: len(names) for name, names in CLASSES.items()}


def tensors(output: object) -> list[torch.Tensor]:
    """The tensors of a head's output."""
    return [part for part in output if part is not None] if isinstance(output, tuple) else [output]


def targets(count: int) -> list[Target]:
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 44.0]]), torch.zeros(0, 4)]
    labels = [torch.tensor([1]), torch.zeros(0, dtype=torch.int64)]
    return [
        Target(
            image_id=i,
            geometry=Geometry(original=(64, 96)),
            label=i % 2,
            boxes=boxes[i % 2],
            box_labels=labels[i % 2],
            mask=torch.full((64, 96), (0, 255)[i % 2], dtype=torch.uint8),
            attributes=torch.tensor([1, 0, 255], dtype=torch.uint8),
            identity=i,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("size", [[64, 96]])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_with_every_task(backbone: str, task: str, size: list[int], tmp_path: Path) -> None:
    config, _ = configure(
        [f"backbone={backbone}", f"task={task}", "backbone.width=0.35", f"input_size={size}".replace(" ", "")]
    )
    (head,) = config["heads"]
    network, tasks = build_network(config, COUNTS), build_tasks(config)
    images = torch.rand(2, 3, *size)
    losses = tasks[head].loss(network(images)[head], targets(2), (64, 96))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    unused = [name for name, p in network.named_parameters() if p.grad is None]
    assert not unused, f"parameters that never learn: {unused}"
    network.eval()
    with torch.no_grad():
        outputs = network(images)
        assert len(tasks[head].predict(outputs[head], (64, 96))) == 2
    path = tmp_path / "a.ckpt"
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    about = checkpoint.description(config, CLASSES)
    checkpoint.write(path, {"state_dict": state, "mbvision": about})
    rebuilt, _ = checkpoint.load(path)
    with torch.no_grad():
        again = rebuilt.eval()(images)
    for one, other in zip(tensors(outputs[head]), tensors(again[head]), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_detector_exports(backbone: str) -> None:
    config, _ = configure([f"backbone={backbone}", "backbone.width=0.35", "input_size=64"])
    network = build_network(config, COUNTS).eval()
    images = torch.rand(1, 3, 64, 64)
    program = torch.export.export(network, (images,), strict=False)
    with torch.no_grad():
        expected, found = network(images)["detection"], program.module()(images)["detection"]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_composes_and_says_where_it_comes_from(name: str) -> None:
    config, _ = configure([f"experiment={name}"])
    build_network(config, COUNTS)
    head = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()[:8]
    assert head[0] == "# @package _global_"
    assert any(f"experiment={name}" in line for line in head if line.startswith("#")), "the command is missing"
    assert any("Expected:" in line for line in head), "the expected figure is missing"


@pytest.mark.parametrize("group", ["optimizer", "schedule"])
def test_every_optimizer_and_schedule_takes_a_step(group: str) -> None:
    for name in choices(group):
        config, _ = configure([f"{group}={name}"])
        optimizer = deferred(config["optimizer"], "optimizer")(parameter_groups(torch.nn.Linear(2, 2)))
        schedule = deferred(config["schedule"], "schedule")(optimizer, 1000)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_target_is_allowed_and_exists(path: Path) -> None:
    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "_target_" in node:
                locate(node, path.stem)
            for value in node.values():
                walk(value)

    walk(yaml.safe_load(path.read_text()))


def test_every_allowed_name_exists() -> None:
    for name in ALLOWED:
        assert callable(locate({"_target_": name}, "x"))


@pytest.mark.parametrize("target", ["os.system", "mbvision.commands.train.main", "builtins.eval", None])
def test_nothing_else_is_ever_called(target: str | None) -> None:
    with pytest.raises(ConfigError, match="not among the components"):
        locate({"_target_": target}, "backbone")


@pytest.mark.parametrize(("value", "size"), [(320, (320, 320)), ([256, 384], (256, 384))])
def test_input_size_is_one_number_or_two(value: object, size: tuple[int, int]) -> None:
    assert input_size({"input_size": value}) == size


@pytest.mark.parametrize("value", [0, -1, "big", [320], [320, 320, 3], 3.5, True, None])
def test_a_senseless_input_size_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="input_size="):
        input_size({"input_size": value})
