"""Command lines: every value arrives as written; every mistake is one line with the nearest right word."""

from pathlib import Path

import pytest

from mbvision.commands.compose import compose_config, expand_sweeps
from mbvision.commands.train import configure
from mbvision.errors import ConfigError


@pytest.mark.parametrize(
    "name",
    [
        "a b.json",
        "a=b.json",
        "img[1].jpg",
        "it's.jpg",
        'say "hi".png',
        "{x}.jpg",
        "a,b.jpg",
        "$HOME.jpg",
        "${x}.jpg",
        "(1).jpg",
        "back\\slash",
        "ends\\",
        "~user",
        "ünï.jpg",
        "null.jpg",
        "1e5",
        "#1.jpg",
        "a:b",
        "*.jpg",
        "%20",
    ],
)
def test_any_file_name_arrives_as_written(name: str) -> None:
    assert compose_config("predict", ["checkpoint=a.ckpt", f"source={name}"])["source"] == name


def test_values_that_are_no_paths_follow_hydras_grammar() -> None:
    config, _ = configure(["input_size=[256,384]", "backbone.width=0.35", "early_stopping=5", "ema_decay=null"])
    assert config["input_size"] == [256, 384] and config["backbone"]["width"] == 0.35
    assert config["early_stopping"] == 5 and config["ema_decay"] is None


def test_a_split_with_signs_needs_no_extra_quotes() -> None:
    config, _ = configure(["data=voc", "data.train_split=VOC2007/trainval+VOC2012/trainval"])
    assert config["data"]["train_split"] == "VOC2007/trainval+VOC2012/trainval"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "backbone=mobilenet_v3_larg",
            r"backbone=mobilenet_v3_larg: there is no such backbone, did you mean mobilenet_v3_large\?",
        ),
        ("tasks.detection.score_treshold=0.5", r"did you mean tasks\.detection\.score_threshold\?"),
        ("trainer.max_epoch=3", r"did you mean trainer\.max_epochs\?"),
        ("sead=3", r"sead: there is no such key, did you mean seed\?"),
        ("trainer.max_epochs=-3", r"trainer\.max_epochs=-3"),
        ("trainer.max_epochs=many", r"trainer\.max_epochs=many"),
        ("tasks.detection.score_threshold=7", r"tasks\.detection\.score_threshold=7.*0\.\.1"),
        ("seed=-1", r"seed=-1"),
        ("freeze=head", r"freeze=head: choose backbone"),
        ("input_size=banana", r"input_size=banana"),
        ("seed=1,2", r"Ambiguous value for argument 'seed=1,2': for one run each add --multirun, for a list put \["),
        ("backbone", r"'backbone' is not key=value"),
        ("", r"is not key=value"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        configure([argument])
    assert "\n" not in str(caught.value)


def test_missing_arguments_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="checkpoint= is missing"):
        compose_config("predict", ["source=a.jpg"])


def test_a_sweep_is_every_combination() -> None:
    runs = expand_sweeps(["--multirun", "backbone.width=0.35,0.5", "seed=0,1", "input_size=[256,384]"])
    assert len(runs) == 4
    assert {tuple(run) for run in runs} == {
        (f"backbone.width={width}", f"seed={seed}", "input_size=[256,384]")
        for width in ("0.35", "0.5")
        for seed in (0, 1)
    }
    assert expand_sweeps(["seed=0,1"]) == [["seed=0,1"]]


def test_resume_takes_up_the_command_and_the_folder_of_its_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # the folder was somewhere else when the run began
    (tmp_path / "config.yaml").write_text("command: [backbone.width=0.5, seed=3, run_dir=/runs/before]\n")
    config, _ = configure([f"resume={tmp_path}/last.ckpt", "seed=4", "backbone.width=0.5"])
    assert caplog.messages == ["the run continues with other keys: seed=4 (was 3)"]
    assert config["backbone"]["width"] == 0.5 and config["seed"] == 4
    assert config["run_dir"] == str(tmp_path)
