"""The command line itself: help, mistakes in one line, and the ways to start a command."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from tqdm import tqdm

from mbvision.commands import complexity, doctor, evaluate, export, predict, prepare_data, run, train
from mbvision.errors import ConfigError
from tests.tiny_runs import SMALLEST

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", [train, evaluate, predict, export, prepare_data, doctor, complexity])
def test_help_explains_the_keys(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command.main, ["--help"]) == 0
    assert "python tools/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (train, ["data=coco", "data.root=/nowhere"], "/nowhere"),
        (train, ["backbone.width=banana", "data=coco"], "banana"),
        (train, ["resume=/nowhere/last.ckpt"], "/nowhere/last.ckpt"),
        (train, ["loader.batch_size=many"], "loader.batch_size=many: give a whole number"),
        (train, ["reset_head=maybe"], "reset_head=maybe: give true or false"),
        (train, ["trainer=debug", *SMALLEST, "trainer.max_steps=0"], "no step was trained: raise trainer.max_steps"),
        (train, ["--multirun", "seed=0,banana"], "seed=banana"),
        (train, ["schedule=null"], "schedule=null: there is no such schedule; choose cosine"),
        (evaluate, [], "checkpoint="),
        (evaluate, ["checkpoint=a.ckpt", "iou=0.7"], "iou= goes with style=voc"),
        (evaluate, ["checkpoint=a.ckpt", "data.on_bad_item=skip"], "data.on_bad_item=skip is for training"),
        (
            export,
            ["checkpoint=a.ckpt", "output=a.onnx", "dynamic=batch"],
            "dynamic=batch: give a list, such as [batch]",
        ),
        (evaluate, ["predictions=/nowhere.json", "annotations=/nowhere.json"], "/nowhere.json"),
        (evaluate, ["checkpoint=/nowhere.ckpt"], "/nowhere.ckpt"),
        (predict, ["checkpoint=/nowhere.ckpt", "source=/nowhere.jpg"], "/nowhere"),
        (prepare_data, ["data=nothing"], "data=nothing"),
        (doctor, ["foo=1"], "foo=1: doctor has no keys"),
        (prepare_data, ["dta=coco"], "did you mean data"),
        (prepare_data, ["data=coco", "archives=/nowhere"], "/nowhere"),
    ],
)
def test_a_users_mistake_is_named_and_ends_with_2(
    command: ModuleType, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command.main, arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_the_tools_are_commands() -> None:
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "predict.py", "checkpoint=nowhere.ckpt", "source=nowhere.jpg"],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        timeout=120,
    )
    assert done.returncode == 2 and done.stderr.startswith("error: source=nowhere.jpg") and done.stderr.count("\n") == 1


def test_python_runs_the_package_as_the_console_script() -> None:
    done = subprocess.run([sys.executable, "-m", "mbvision", "complexity", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Count")


def test_an_error_stands_in_a_line_of_its_own_behind_a_progress_bar(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: Sequence[str]) -> int:
        bars = [tqdm(total=3, desc="Epoch"), tqdm(total=3, desc="Validation", leave=False)]
        bars[1].update()
        raise ConfigError("key=value: no")

    assert run(fail, []) == 2
    assert capfd.readouterr().err.splitlines()[-1] == "error: key=value: no"
