"""Every published recipe is what its source says, key by key, or says why not; demos and CamVid's are our own."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mbvision.commands.compose import compose_config, conf_folder, flatten

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
