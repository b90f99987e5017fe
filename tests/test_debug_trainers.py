"""``trainer=debug`` and ``trainer=overfit`` are what they say with every recipe: one batch, and an end."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
import yaml

from mbvision.commands.compose import compose_config, conf_folder
from mbvision.commands.fitting import build_trainer
from mbvision.commands.train import configure

RECIPES = sorted(path.stem for path in (conf_folder() / "experiment").glob("*.yaml"))
STEPS = {"debug": 1, "overfit": 200}


def stated(trainer: str) -> dict[str, Any]:
    """What the file says beyond the default trainer."""
    content = yaml.safe_load((conf_folder() / "trainer" / f"{trainer}.yaml").read_text())
    return {key: value for key, value in content.items() if key != "defaults"}


class Counter(L.LightningModule):
    """One weight, and a count of the batches it trains on and is validated on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[int] = []
        self.validated: list[int] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.trained.append(batch_idx)
        return (self.weight * batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.validated.append(batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@cache
def batches(folder: Path, settings: str) -> tuple[list[int], list[int], int]:
    """What a training with these settings sees of a set of eight batches, and its steps."""
    config = json.loads(settings)
    config["trainer"] |= {"enable_progress_bar": False, "accelerator": "cpu"}
    module, loader = Counter(), torch.utils.data.DataLoader(torch.ones(8, 1))
    trainer = build_trainer(config, folder, callbacks=[], logger=False, enable_checkpointing=False)
    trainer.fit(module, loader, loader)
    return module.trained, module.validated, trainer.global_step


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:The number of training batches")
@pytest.mark.parametrize("trainer", STEPS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_one_batch_and_ends(
    recipe: str, trainer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = compose_config("train", [f"experiment={recipe}", f"trainer={trainer}"])
    assert {key: config["trainer"][key] for key in stated(trainer)} == stated(trainer)
    # Recipes differ in little more than precision, clipping and batch size: few trainings answer for all of them.
    settings = json.dumps({key: config[key] for key in ("trainer", "loader")})
    trained, validated, steps = batches(tmp_path_factory.getbasetemp(), settings)
    assert steps == len(trained) == STEPS[trainer] and set(trained) == {0}
    assert validated and set(validated) == {0}


@pytest.mark.parametrize("order", [1, -1])
def test_the_command_line_outranks_a_recipe_and_says_so(order: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    arguments = ["experiment=demo", "trainer=debug", "trainer.max_epochs=3"]
    trainer = compose_config("train", arguments[::order])["trainer"]
    assert trainer["max_epochs"] == 3 and trainer["max_steps"] == -1 and trainer["limit_train_batches"] == 1
    (line,) = caplog.messages
    assert line.startswith("the command line outranks experiment=demo: ")
    assert "trainer.max_steps=-1 (not 2000)" in line and "backbone" not in line


def test_a_trainer_for_a_machine_keeps_the_length_of_a_recipe() -> None:
    recipe = ["experiment=coco_ssdlite320_torchvision"]
    of_recipe, on_processor, by_default = (
        compose_config("train", [*recipe, *more])["trainer"] for more in ([], ["trainer=cpu"], ["trainer=default"])
    )
    assert on_processor["devices"] == 1 and on_processor["accelerator"] == "cpu" and on_processor["deterministic"]
    assert on_processor["max_epochs"] == by_default["max_epochs"] == of_recipe["max_epochs"] == 660
    assert on_processor["gradient_clip_val"] is None


def test_another_component_comes_with_its_own_numbers_and_a_backbone_keeps_the_recipes() -> None:
    recipe = compose_config("train", ["experiment=demo"])
    other = compose_config("train", ["experiment=demo", "optimizer=sgd", "schedule=poly", "backbone=mobilenet_v2"])
    assert other["optimizer"] == compose_config("train", ["optimizer=sgd"])["optimizer"]
    assert other["schedule"] == compose_config("train", ["schedule=poly"])["schedule"]
    assert other["backbone"]["width"] == recipe["backbone"]["width"] == 0.5
    same = compose_config("train", ["experiment=demo", "optimizer=adamw", "trainer=cpu"])
    assert same == recipe  # the choices that the recipe makes itself


def test_another_task_leaves_a_recipes_heads_behind() -> None:
    config, _ = configure(["experiment=demo", "task=lraspp"])
    assert set(config["heads"]) == set(config["tasks"]) == {"segmentation"}
    assert config["transform"]["train"]["_target_"].endswith("segmentation_train")
