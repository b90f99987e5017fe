"""Training as the command runs it: checkpoints, steps that are skipped, frozen parts, and whether it learns."""

import json
import logging
import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor

import mbvision
from mbvision import checkpoint
from mbvision.commands import fitting
from mbvision.engine import random_state
from mbvision.engine.callbacks import RunCheckpoints
from mbvision.engine.guard import all_finite
from mbvision.engine.module import VisionModule
from mbvision.engine.single_image import norms_of_single_values
from mbvision.errors import ConfigError, TrainingError
from mbvision.structures import Batch, Target
from mbvision.tasks.detection import Detection
from tests.tiny_runs import build, config, differing, fit, watch, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")

DEBUG = ("trainer=debug", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=5, val=2)


@pytest.fixture(scope="module")
def debug_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one batch, with everything that ``train`` writes."""
    folder = tmp_path_factory.mktemp("runs") / "debug"
    folder.mkdir()
    settings = config(root, *DEBUG)
    module, data = build(settings)
    fitting.finish(settings, module, data, folder, fitting.fit(settings, module, data, folder, None))
    return folder


def test_a_debug_run_leaves_everything_that_a_run_promises(debug_run: Path) -> None:
    assert {path.name for path in debug_run.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "metrics.json",
        "metrics.csv",
        "curves.png",
        "samples",
        "predictions.json",
    }
    metrics = json.loads((debug_run / "metrics.json").read_text())
    assert metrics["images"] == 2 and "AP" in metrics and metrics["step"] == 1


@pytest.mark.parametrize("name", ["best", "last"])
def test_both_checkpoints_work_for_prediction_resume_and_as_a_start(root: Path, debug_run: Path, name: str) -> None:
    path = debug_run / f"{name}.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == 1
    assert mbvision.load(path).predict(np.zeros((50, 70, 3), dtype=np.uint8)).boxes.shape[1] == 4
    module, _ = build(config(root, f"pretrained={path}"))
    content = checkpoint.read(path)
    assert not differing(module.network.state_dict(), checkpoint.network_weights(content))
    settings = config(root, *DEBUG)
    done = fit(settings, debug_run.parent / f"resumed_{name}", resume=path)
    assert done.global_step == 1


def test_curves_are_announced_where_there_are_some(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config(root, *DEBUG)
    trainer = fit(settings, tmp_path)  # draws none, as a run that logged nothing
    fitting.finish(settings, trainer.lightning_module, trainer.datamodule, tmp_path, trainer)
    said = capsys.readouterr().out
    assert f"pictures   {tmp_path / 'samples'}\n" in said and "\ncurves " not in said


def test_checkpoints_hold_the_average_and_the_weights_themselves(debug_run: Path) -> None:
    content = checkpoint.read(debug_run / "last.ckpt")
    assert content["averaging_state"]["n_averaged"] == 1
    assert set(content["current_model_state"]) == set(content["state_dict"])
    assert {"optimizer_states", "lr_schedulers", "random", "mbvision", "sha256"} <= set(content)


def break_loss(monkeypatch: pytest.MonkeyPatch, bad: set[int], value: float = math.nan) -> None:
    """Detection losses become ``value`` in batches that hold one of these images."""
    whole = Detection.loss

    def loss(self: Detection, outputs: Any, targets: list[Target], size: tuple[int, int]) -> dict[str, Tensor]:
        losses = whole(self, outputs, targets, size)
        if bad & {target.image_id for target in targets}:
            losses["box"] = losses["box"] * value
        return losses

    monkeypatch.setattr(Detection, "loss", loss)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_whose_loss_is_not_finite_changes_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    ids, states = watch(monkeypatch)
    break_loss(monkeypatch, {3}, value)
    with caplog.at_level(logging.WARNING):
        fit(config(root, "trainer.max_epochs=1", "ema_decay=null", "loader.batch_size=1"), tmp_path)
    place = ids.index([3])
    for step, (before, after) in enumerate(pairwise(states)):
        assert bool(differing(before, after)) == (step != place)
    messages = [record.message for record in caplog.records if "not finite" in record.message]
    assert messages == ["the loss or its gradient is not finite: the step is skipped; images [3]"]


def test_too_many_bad_steps_in_a_row_stop_with_the_images_and_good_checkpoints(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, _ = watch(monkeypatch)
    break_loss(monkeypatch, {1, 2, 3, 4, 5})
    with pytest.raises(
        TrainingError, match=r"3 steps in a row \(max_nan_steps=2\), last for the images \[\d\]"
    ) as caught:
        fit(config(root, "max_nan_steps=2", "loader.batch_size=1", "checkpoint_every_n_steps=1"), tmp_path)
    assert len(ids) == 3 and f"images {ids[-1]}" in str(caught.value)
    content = checkpoint.read(tmp_path / "last.ckpt")
    assert content["global_step"] == 2 and all_finite(content["state_dict"].values())


def test_no_checkpoint_is_written_from_weights_that_are_not_finite(root: Path, tmp_path: Path) -> None:
    settings = config(
        root,
        "optimizer.lr=1e38",
        "trainer.gradient_clip_val=null",
        "schedule.warmup_factor=1.0",
        "checkpoint_every_n_steps=1",
    )
    with pytest.raises(TrainingError, match=r"not finite"):
        fit(settings, tmp_path)
    for path in tmp_path.glob("*.ckpt"):
        assert all_finite(checkpoint.read(path)["state_dict"].values())


def test_a_frozen_backbone_keeps_every_tensor(root: Path, tmp_path: Path) -> None:
    settings = config(root, "freeze=backbone", "trainer.max_epochs=1")
    start, _ = build(settings)
    fit(settings, tmp_path)
    before, after = start.network.state_dict(), checkpoint.network_weights(checkpoint.read(tmp_path / "last.ckpt"))
    changed = differing(before, after)
    assert changed and all(key.startswith("heads.") for key in changed)
    assert any("running_mean" in key for key in changed)


@pytest.mark.parametrize("every", [2, 100])
def test_an_average_of_every_so_many_steps_has_the_first_and_the_last_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Two epochs of three steps: it takes in steps 1, 2, 3, 4 and 6, or 1, 3 and 6, and never the random start."""
    _, states = watch(monkeypatch)
    fit(config(root, f"ema_every_n_steps={every}"), tmp_path)
    content = checkpoint.read(tmp_path / "last.ckpt")
    key = next(name for name in states[0] if name.endswith("weight") and name.startswith("heads."))
    after = [*(state[key] for state in states[1:]), content["current_model_state"][f"network.{key}"]]
    done, expected = 1, after[0]
    for step in {2: (2, 3, 4, 6), 100: (3, 6)}[every]:
        keep = min(0.9, (1 + done) / (10 + done)) ** (step - done)
        expected, done = keep * expected + (1 - keep) * after[step - 1], step
    torch.testing.assert_close(content["state_dict"][f"network.{key}"], expected)


def test_checkpoints_fall_between_accumulated_steps_only(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    save = RunCheckpoints._save

    def note(self: RunCheckpoints, trainer: L.Trainer, path: Path, *copies: Path) -> None:
        saved.append((trainer.fit_loop.epoch_loop.batch_progress.current.ready, trainer.global_step))
        save(self, trainer, path, *copies)

    monkeypatch.setattr(RunCheckpoints, "_save", note)
    settings = config(
        root,
        "loader.batch_size=1",
        "trainer.accumulate_grad_batches=2",
        "trainer.max_epochs=1",
        "checkpoint_every_n_steps=1",
    )
    fit(settings, tmp_path)
    assert saved == [(2, 1), (4, 2), (5, 3)]


def test_a_batch_of_one_image_trains_and_norms_go_back_to_training(root: Path) -> None:
    module, _ = build(config(root))
    network = module.network.train()
    with pytest.raises(ValueError, match="more than 1 value"):
        network(torch.rand(1, 3, 64, 64))
    with norms_of_single_values(network):
        network(torch.rand(1, 3, 64, 64))["detection"].logits.sum().backward()
    assert all(part.training for part in network.modules())
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.backbone.parameters())
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_overfitting_trains_on_one_batch_as_it_is_scored(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, scored = [], []
    train_step, validation_step = VisionModule.training_step, VisionModule.validation_step

    def note(self: VisionModule, batch: Batch, batch_idx: int) -> Tensor:
        seen.append((batch.images.clone(), [target.image_id for target in batch.targets]))
        return train_step(self, batch, batch_idx)

    def note_scored(self: VisionModule, batch: Batch, batch_idx: int) -> None:
        scored.append((batch.images.clone(), [target.image_id for target in batch.targets]))
        validation_step(self, batch, batch_idx)

    monkeypatch.setattr(VisionModule, "training_step", note)
    monkeypatch.setattr(VisionModule, "validation_step", note_scored)
    overfit = ["trainer=overfit", "trainer.accelerator=cpu", "trainer.max_epochs=3"]
    fit(config(root, *overfit, "trainer.check_val_every_n_epoch=1"), tmp_path)
    assert len(seen) == len(scored) == 3
    for images, ids in [*seen, *scored]:
        assert torch.equal(images, seen[0][0]) and ids == seen[0][1]


def test_learns(root: Path) -> None:
    """Four synthetic images are learnt by heart: the loss falls to a tenth."""
    module, data = build(config(root, "loader.batch_size=4"))
    batch = next(iter(data.train_dataloader()))
    network, task = module.network.train(), module.tasks["detection"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = torch.stack(
            list(task.loss(network(batch.float_images())["detection"], batch.targets, (64, 64)).values())
        )
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.sum().item())
    assert len(batch.targets) == 4 and max(losses[-3:]) < losses[0] / 10


def test_the_random_state_goes_through_a_file_and_back(tmp_path: Path) -> None:
    device = torch.device("cpu")
    checkpoint.write(tmp_path / "state.ckpt", random_state.capture(device))
    first = (random.random(), np.random.random(), np.random.normal(), torch.rand(1).item())
    random_state.restore(checkpoint.read(tmp_path / "state.ckpt"), device)
    assert first == (random.random(), np.random.random(), np.random.normal(), torch.rand(1).item())


def test_what_runs_out_of_memory_or_loses_a_worker_is_told_in_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(root)
    for error, message in (
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), r"loader.batch_size=2 and input_size=64"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            r"process 7, .* was killed by SIGKILL; ",
        ),
    ):

        def fail(self: VisionModule, batch: Batch, batch_idx: int, error: Exception = error) -> Tensor:
            raise error

        monkeypatch.setattr(VisionModule, "training_step", fail)
        with pytest.raises(TrainingError, match=message) as caught:
            fit(settings, tmp_path)
        assert "\n" not in str(caught.value)


def test_a_folder_without_room_for_two_checkpoints_is_told_at_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(TrainingError, match="two checkpoints need"):
        fit(config(root), tmp_path)


def test_settings_that_cannot_work_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="checkpoint_every_n_steps=0"):
        config(root, "checkpoint_every_n_steps=0")
    with pytest.raises(ConfigError, match="max_nan_steps=-1"):
        config(root, "max_nan_steps=-1")
    with pytest.raises(ConfigError, match="trainer: "):
        fit(config(root, "trainer.limit_train_batches=1.5"), tmp_path)
