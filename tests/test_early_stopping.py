"""Early stopping counts validations, over resumes too, with the patience that the run is given."""

import logging
from pathlib import Path
from typing import Any

import pytest

from mbvision import checkpoint
from mbvision.commands.checks import check
from mbvision.engine.module import VisionModule
from mbvision.errors import ConfigError
from tests.tiny_runs import config, fit, keep_every_checkpoint, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=2, val=1)


def settings(root: Path, patience: int) -> dict[str, Any]:
    """Epochs of one step."""
    return config(root, "ema_decay=null", "trainer.max_epochs=9", f"early_stopping={patience}")


def end(folder: Path) -> tuple[int, int]:
    content = checkpoint.read(folder / "last.ckpt")
    return content["global_step"], content["callbacks"]["EarlyStopping"]["waited"]


def test_a_run_stops_resumes_with_more_patience_and_ends_at_once_where_nothing_is_left(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every validation scores 0.5, so that the first one is the best."""
    caplog.set_level(logging.INFO, logger="mbvision")
    monkeypatch.setattr(VisionModule, "score", 0.5)
    with monkeypatch.context() as patch:
        keep_every_checkpoint(patch, tmp_path)
        fit(settings(root, 2), tmp_path)
    assert end(tmp_path) == (3, 2)
    assert "training ends: 2 validations without a better score than" in caplog.text
    killed = tmp_path / "killed"
    fit(settings(root, 2), killed, resume=tmp_path / "step_2.ckpt")  # after a validation, as a killed run is resumed
    assert end(killed) == (3, 2)
    fit(settings(root, 4), tmp_path, resume=tmp_path / "last.ckpt")
    assert end(tmp_path) == (5, 4) and "(early_stopping=4)" in caplog.text
    caplog.clear()
    trainer = fit(settings(root, 3), tmp_path, resume=tmp_path / "last.ckpt")
    assert trainer.global_step == 5 and "training ends: 4 validations" in caplog.text


def test_early_stopping_without_a_validation_is_refused(root: Path) -> None:
    for never in ("trainer.limit_val_batches=0", "trainer.check_val_every_n_epoch=3"):
        with pytest.raises(ConfigError, match=r"early_stopping=5: nothing is validated.*" + never.partition("=")[0]):
            check(config(root, "early_stopping=5", never))
