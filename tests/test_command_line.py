"""The command line itself: help, mistakes in one line, and the ways to start a command."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from tqdm import tqdm

import mbvision
from mbvision import commands
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


@pytest.mark.parametrize(
    ("arguments", "code", "out", "error"),
    [
        (["trian"], 2, "", "error: trian: there is no such command, did you mean train?\n"),
        (["xyz"], 2, "", "error: xyz: there is no such command; choose train, evaluate,"),
        (["--version"], 0, f"mbvision {mbvision.__version__}\n", ""),
        ([], 0, "usage: mbvision COMMAND", ""),
        (["--help"], 0, "usage: mbvision COMMAND", ""),
    ],
)
def test_the_program_without_a_command(
    arguments: list[str], code: int, out: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == code
    assert printed.out.startswith(out) and printed.err.startswith(error)
    assert bool(printed.out) == bool(out) and bool(printed.err) == bool(error)


def test_the_list_of_commands_into_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen([sys.executable, "-m", "mbvision"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0 and error == b""


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/usr/bin/mbvision", "mbvision evaluate"),
        ("/somewhere/mbvision/__main__.py", "python -m mbvision evaluate"),
        ("tools/evaluate.py", "python tools/evaluate.py"),
    ],
)
def test_messages_name_the_command_as_it_was_typed(
    program: str, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Sequence[str]) -> int:
        raise ConfigError("run python tools/evaluate.py first")

    monkeypatch.setattr(sys, "argv", [program])
    assert run(evaluate.main, ["--help"]) == 0
    assert run(fail, []) == 2
    printed = capsys.readouterr()
    assert f"Score a checkpoint: {typed} checkpoint=best.ckpt" in printed.out
    assert printed.err == f"error: run {typed} first\n"


@pytest.mark.parametrize(
    ("command", "arguments", "missing", "message"),
    [
        (train, ["tensorboard=true"], ["tensorboard", "tensorboardX"], "tensorboard=true needs tensorboard"),
        (evaluate, ["checkpoint=a.ckpt", "backend=hotcoco"], ["hotcoco"], "backend=hotcoco needs hotcoco"),
        (predict, ["checkpoint=a", "source=b", "runtime=onnx"], ["onnxruntime"], "runtime=onnx needs onnxruntime"),
        (evaluate, ["checkpoint=a", "runtime=openvino"], ["openvino"], "runtime=openvino needs openvino"),
        (export, ["checkpoint=a", "output=a.onnx"], ["onnxscript"], "format=onnx needs onnxscript"),
        (export, ["checkpoint=a", "output=a.mlpackage"], ["coremltools"], "format=coreml needs coremltools"),
        (export, ["checkpoint=a", "output=a.xml", "quantize=int8"], ["nncf"], "format=openvino needs nncf"),
    ],
)
def test_a_missing_extra_is_reported_first(
    command: ModuleType,
    arguments: list[str],
    missing: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def installed(package: str) -> object:
        return None if package in missing else "installed"

    monkeypatch.setattr("mbvision.commands.extras.find_spec", installed)
    monkeypatch.setattr("mbvision.deploy.runtime.find_spec", installed)
    monkeypatch.chdir(tmp_path)
    assert run(command.main, arguments) == 2  # before the checkpoint or the data are looked for
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}, which is not installed: pip install") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_deleted_working_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run(predict.main, ["checkpoint=a.ckpt", "source=a.jpg"]) == 2
    assert capsys.readouterr().err == (
        "error: the working directory of this shell was deleted: change to one that exists\n"
    )


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
