"""A library gives back what it takes: the process is as it was after an import, a command, a training, a model."""

import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mbvision
from mbvision.commands import run, train
from mbvision.errors import ConfigError
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_runs import arguments, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")


def surroundings() -> dict[str, Any]:
    """What belongs to the whole process, and what others in it may rely on."""
    names = ("", "lightning.pytorch", "lightning.fabric", "onnx_ir", "py.warnings")
    loggers = [logging.getLogger(name) for name in names]
    return {
        "environment": dict(os.environ),
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True)[1].tolist(),  # type: ignore[union-attr, index, call-overload]
        "torch": torch.get_rng_state().tolist(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "filters": list(warnings.filters),
        "shown by": warnings.showwarning,
        "loggers": [(logger.level, logger.propagate) for logger in loggers],
        "handlers": list(logging.getLogger().handlers),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "stdout": getattr(sys.stdout, "errors", None),
        "folder": os.getcwd(),
    }


def assert_unchanged(before: dict[str, Any]) -> None:
    after = surroundings()
    assert [name for name in before if after[name] != before[name]] == []


def forget_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that set up no logging: pytest has handlers of its own."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def test_a_training_and_its_command_leave_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_handlers(monkeypatch)
    import lightning.pytorch  # noqa: F401 (it sets its loggers up when it is imported)

    root = write_coco(tmp_path / "coco", train=2, val=1)
    keys = arguments(root, "trainer=debug", "threads=2", "trainer.deterministic=true", "freeze=backbone")
    torch.manual_seed(5)
    before = surroundings()
    assert run(train.main, [*keys, f"run_dir={tmp_path / 'a'}"]) == 0
    assert_unchanged(before)
    config, command = train.configure([*keys, f"run_dir={tmp_path / 'b'}"])
    train.train(config, command)
    assert {**surroundings(), "filters": None} == {**before, "filters": None}  # imports add filters of their own


def test_a_command_that_fails_leaves_the_process_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_handlers(monkeypatch)

    def fail(given: Any) -> int:
        logging.getLogger("mbvision").info("a line")
        warnings.warn("This DataLoader will create workers", stacklevel=1)
        os.environ["MBVISION_RUN_STAMP"] = "now"
        raise ConfigError("no")

    before = surroundings()
    assert run(fail, []) == 2
    assert_unchanged(before)
    assert capsys.readouterr().err.splitlines() == ["a line", "error: no"]


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_loading_a_model_takes_no_random_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setenv("MBVISION_CACHE", str(tmp_path / "cache"))
    path = write_checkpoint(tmp_path / "a.ckpt")
    before = surroundings()
    model = mbvision.load(path, device="cpu", runtime=runtime)
    model.predict(np.zeros((40, 30, 3), dtype=np.uint8))
    assert {**surroundings(), "filters": None} == {**before, "filters": None}  # imports add filters of their own


IMPORT = """
import importlib, logging, os, pkgutil, random, warnings
import numpy, torch, lightning.pytorch, av, cv2, matplotlib  # what they do is theirs
import mbvision
def state():
    return (dict(os.environ), random.getstate(), torch.get_rng_state().tolist(), torch.get_num_threads(),
            cv2.getNumThreads(), [(one.level, one.handlers) for one in [logging.getLogger()]], warnings.showwarning)
before = state()
for module in pkgutil.walk_packages(mbvision.__path__, "mbvision."):
    if module.name != "mbvision.__main__":
        importlib.import_module(module.name)
print([a == b for a, b in zip(before, state())])
"""


def test_importing_every_module_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == str([True] * 7).split(), done.stderr
