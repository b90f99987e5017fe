"""Every published recipe is what its source says, key by key, or says why not; demos and CamVid's are our own."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torchvision.models import get_model_weights

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands.compose import compose_config, conf_folder, flatten
from mbvision.commands.fitting import load_start
from mbvision.commands.total_batch import batches_a_step
from mbvision.data.voc_masks import VOC_MASK_CLASSES
from mbvision.network import Network
from mbvision.weights.published import fitting_settings, published

OURS = ("demo", "camvid")
RECIPES = sorted(path.stem for path in (conf_folder() / "experiment").glob("*.yaml"))
PUBLISHED = [name for name in RECIPES if not name.startswith(OURS)]
TRAINING = re.compile(
    r"backbone\.(norm_eps|norm_momentum|padding|reduced_tail|scale_last|channel_divisor|dilation_rule|width_rule"
    r"|convolution|shallow|weights)"
    r"|heads\.(?!.*(_target_|\.width$)).+|tasks\.(?!.*(_target_|\.weight$)).+|optimizer\.(?!fused).+|schedule\..+"
    r"|transform\.(train|mix)\.(?!_target_|eval_size|fit).+|normalize\..+|loader\.(total_)?batch_size|ema_\w+"
    r"|input_size|eval_size|output_stride|fit|crop_fraction|class_slots|pretrained|data\.(train|val)_split"
    r"|trainer\.(max_epochs|max_steps|precision|gradient_clip_val|sync_batchnorm)"
)
"""The keys that decide what is trained, and how it is scored."""


def training_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `TRAINING` that have an effect, and those of the reader that is used, by full key."""
    (head,) = config["heads"]
    leaves = {key: value for key, value in flatten(dict(config)).items() if not isinstance(value, dict)}
    reader = rf"data\.readers\.{head}\.(?!_target_|devkit).+"
    loss = config["tasks"][head].get("loss", {})
    idle = {
        "crop_fraction": config["fit"] != "crop",
        "class_slots": head != "detection",
        "eval_size": head == "detection",
        "ema_every_n_steps": config["ema_decay"] is None,
        "schedule.warmup_factor": not config["schedule"]["warmup_steps"],
        "tasks.detection.loss.alpha": loss.get("classification") != "focal",
        "tasks.detection.loss.gamma": loss.get("classification") != "focal",
        "tasks.detection.loss.negatives_per_positive": loss.get("classification") == "focal",
        "tasks.detection.loss.min_negatives": loss.get("classification") == "focal",
        "tasks.segmentation.loss.ohem_min_kept": loss.get("ohem_threshold") is None,
    }
    return {
        key: value
        for key, value in leaves.items()
        if (TRAINING.fullmatch(key) or re.fullmatch(reader, key)) and not idle.get(key, False)
    }


@lru_cache
def sources() -> dict[str, Any]:
    """The table of recipes and their sources."""
    table: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "data" / "recipes.yaml").read_text("utf-8"))
    return table


def test_every_published_recipe_is_in_the_table() -> None:
    assert sorted(sources()["recipes"]) == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_what_its_source_says(name: str) -> None:
    config = compose_config("train", [f"experiment={name}"])
    table = sources()["recipes"][name]
    assert training_keys(config) == {key: entry["ours"] for key, entry in table.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_is_the_sources_or_has_a_reason(name: str) -> None:
    for key, entry in sources()["recipes"][name].items():
        if "unverified" in entry:
            assert entry["unverified"] and set(entry) == {"ours", "unverified"}, key
        else:
            assert entry["in"] in sources()["files"] and entry.keys() <= {"ours", "source", "in", "says", "why"}, key
            assert entry["source"] == entry["ours"] or entry.get("why"), key


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_trains_its_total_batch_on_one_device_too(name: str) -> None:
    config = compose_config("train", [f"experiment={name}", "trainer.devices=1"])
    batch, total = config["loader"]["batch_size"], config["loader"]["total_batch_size"]
    assert batches_a_step(config) * batch == total


FETCHED = [name for name in PUBLISHED if sources()["recipes"][name]["backbone.weights"]["ours"]]


@pytest.mark.parametrize("name", FETCHED)
def test_start_weights_of_torchvision_fit_the_recipe(name: str) -> None:
    config = compose_config("train", [f"experiment={name}"])
    library, _, weights = config["backbone"]["weights"].partition(":")
    architecture = config["backbone"]["_target_"].rpartition(".")[2]
    assert library == "torchvision" and weights in get_model_weights(architecture).__members__
    network = build_network(config, dict.fromkeys(config["heads"], 3))
    (settings,) = fitting_settings(network, published("torchvision", architecture))  # refused where they would be
    assert list(settings.mean) == config["normalize"]["mean"] and list(settings.std) == config["normalize"]["std"]


def test_the_checkpoints_that_the_voc_recipe_builds_on_fit_one_another(tmp_path: Path) -> None:
    masks = {"segmentation": VOC_MASK_CLASSES}
    chain = [
        ("imagenet_mobilenet_v2", "backbone.weights", {"classification": ("cat", "dog")}),
        ("coco_deeplabv3_mobilenet_v2", "backbone.weights", masks),
        ("voc_deeplabv3_mobilenet_v2", "pretrained", masks),
    ]
    before: Network | None = None
    for name, key, classes in chain:
        start = [] if before is None else [f"{key}={tmp_path / 'before.ckpt'}"]
        config = compose_config("train", [f"experiment={name}", "backbone.width=0.35", *start])
        network = build_network(config, {head: len(names) for head, names in classes.items()})
        load_start(network, config, classes)
        if before is not None:
            part = "backbone." if key == "backbone.weights" else ""
            own = network.state_dict()
            given = {k: v for k, v in before.state_dict().items() if k.startswith(part) and k in own}
            assert len(given) > 200 and all(torch.equal(own[k], v) for k, v in given.items())
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.normal_(module.weight)  # as if it had been trained
        state = {f"network.{k}": v for k, v in network.state_dict().items()}
        checkpoint.write(
            tmp_path / "before.ckpt", {"state_dict": state, "mbvision": checkpoint.description(config, classes)}
        )
        before = network
