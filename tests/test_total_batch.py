"""One step takes the same number of images on any number of processes, or training does not start."""

import logging
from pathlib import Path
from typing import Any

import pytest

from mbvision import checkpoint
from mbvision.commands.total_batch import batches_a_step, check_total_batch
from mbvision.commands.train import configure
from mbvision.errors import ConfigError
from tests.tiny_runs import config, fit, write_coco


def settings(**keys: Any) -> dict[str, Any]:
    trainer = {"accelerator": "gpu", "devices": 1, "num_nodes": 1, "accumulate_grad_batches": 1}
    trainer |= {"overfit_batches": 0, "limit_train_batches": 1.0}
    loader = {"batch_size": 4, "total_batch_size": 32}
    return {
        "trainer": trainer | {key: value for key, value in keys.items() if key in trainer},
        "loader": loader | {key: value for key, value in keys.items() if key in loader},
    }


@pytest.mark.parametrize(
    ("keys", "batches"),
    [
        ({}, 8),
        ({"devices": 8}, 1),
        ({"devices": [0, 2]}, 4),
        ({"devices": 2, "num_nodes": 2}, 2),
        ({"accumulate_grad_batches": 8}, 8),
        ({"total_batch_size": None, "accumulate_grad_batches": 3}, 3),
        ({"overfit_batches": 1}, 1),
        ({"limit_train_batches": 1}, 1),
        ({"limit_train_batches": 100}, 8),
    ],
)
def test_batches_are_accumulated_to_the_total(keys: dict[str, Any], batches: int) -> None:
    assert batches_a_step(settings(**keys)) == batches


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"devices": 16}, r"batch_size=4 on each of 16 processes cannot make .*=32: set loader\.batch_size=2, or"),
        ({"batch_size": 5}, r"loader\.batch_size=5 cannot make .*=32: set loader\.batch_size=4, or"),
        ({"devices": 3}, r"set a number of trainer\.devices that divides 32, or loader\.total_batch_size=null"),
        ({"accumulate_grad_batches": 2}, r"accumulate_grad_batches=2: .* in 8 batches; leave that key out"),
    ],
)
def test_a_total_that_cannot_be_reached_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_total_batch(settings(**keys))


def test_a_run_accumulates_what_the_total_asks_for_and_reports_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_coco(tmp_path / "coco")  # 7 images
    one_by_one = ["loader.batch_size=1", "trainer.max_epochs=1"]
    total = config(root, *one_by_one, "loader.total_batch_size=3")
    with caplog.at_level(logging.INFO):
        check_total_batch(total)
    assert "loader.total_batch_size=3: a step takes 1 images x 1 processes x 3 accumulated batches" in caplog.text
    fit(total, tmp_path / "total")
    fit(config(root, *one_by_one, "trainer.accumulate_grad_batches=3"), tmp_path / "given")
    found, expected = (checkpoint.read(tmp_path / name / "last.ckpt") for name in ("total", "given"))
    assert found["global_step"] == expected["global_step"] == 3
    assert all((found["state_dict"][key] == value).all() for key, value in expected["state_dict"].items())


@pytest.mark.parametrize("value", ["0", "banana", "1.5"])
def test_a_senseless_total_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"loader\.total_batch_size="):
        configure([f"loader.total_batch_size={value}"])
