"""A run that is stopped, or killed, and resumed ends as the run that was never stopped, bit for bit."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mbvision import checkpoint, commands
from mbvision.commands import train
from mbvision.errors import ImageError
from tests.tiny_runs import arguments, config, differing, fit, keep_every_checkpoint, watch, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=7, val=2)


def assert_equal_runs(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Weights, their average, momentum, schedule and progress are equal to the last bit."""
    assert not differing(found["state_dict"], expected["state_dict"])
    assert not differing(found["current_model_state"], expected["current_model_state"])
    assert found["averaging_state"] == expected["averaging_state"]
    momentum, wanted = (content["optimizer_states"][0]["state"] for content in (found, expected))
    assert all(torch.equal(momentum[i]["momentum_buffer"], wanted[i]["momentum_buffer"]) for i in wanted)
    assert momentum.keys() == wanted.keys()
    assert found["lr_schedulers"] == expected["lr_schedulers"]
    assert (found["epoch"], found["global_step"]) == (expected["epoch"], expected["global_step"])


def test_a_run_resumed_after_any_step_ends_as_the_one_never_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 1 and 3 lie inside the first epoch, 4 ends it, 5 is the second's first; workers come and go."""
    with monkeypatch.context() as patch:
        keep_every_checkpoint(patch, tmp_path)
        ids, states = watch(patch)
        fit(config(root, "checkpoint_every_n_steps=1"), tmp_path / "whole")
    whole = checkpoint.read(tmp_path / "whole" / "last.ckpt")
    assert len(ids) == whole["global_step"] == 8
    for step, workers in ((1, 0), (3, 1), (4, 0), (5, 1)):
        with monkeypatch.context() as patch:
            resumed_ids, resumed_states = watch(patch)
            folder = tmp_path / f"from_{step}"
            fit(config(root, f"loader.workers={workers}"), folder, resume=tmp_path / f"step_{step}.ckpt")
        assert resumed_ids == ids[step:]
        assert not any(differing(a, b) for a, b in zip(resumed_states, states[step:], strict=True))
        assert_equal_runs(checkpoint.read(folder / "last.ckpt"), whole)


def test_a_validation_that_a_damaged_picture_broke_off_is_done_anew(root: Path, tmp_path: Path) -> None:
    broken, run = tmp_path / "coco", tmp_path / "run"
    shutil.copytree(root, broken)
    picture = broken / "val" / "0.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(ImageError, match=r"0\.jpg: .*take it out of the split"):
        fit(config(broken), run)
    assert checkpoint.read(run / "last.ckpt")["global_step"] == 4  # of the first epoch, which cost a day
    shutil.copy(root / "val" / "0.jpg", picture)
    fit(config(broken), run, resume=run / "last.ckpt")
    fit(config(root), tmp_path / "whole")
    assert_equal_runs(*(checkpoint.read(folder / "last.ckpt") for folder in (run, tmp_path / "whole")))
    assert checkpoint.read(run / "last.ckpt")["callbacks"] == checkpoint.read(tmp_path / "whole/last.ckpt")["callbacks"]


def test_a_run_that_goes_on_in_another_folder_takes_along_what_it_had(root: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train.main([*arguments(root), "trainer.max_epochs=1", f"run_dir={first}"]) == 0
    command = [f"resume={first}/last.ckpt", f"run_dir={second}", "trainer.max_epochs=1"]
    assert train.main(command) == 0  # nothing is left to do: scored once more
    assert (second / "metrics.json").read_text() == (first / "metrics.json").read_text()
    assert (second / "metrics.csv").read_text() == (first / "metrics.csv").read_text()
    moved = tmp_path / "moved"
    first.rename(moved)
    assert train.main([f"resume={moved}/last.ckpt", "trainer.max_epochs=2"]) == 0
    assert checkpoint.read(moved / "last.ckpt")["epoch"] == 1 and not first.exists()


def test_the_rest_of_an_epoch_is_shown_and_validated_whatever_the_batch_size_is_then(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of seven images in a batch of 2, four in batches of 1 (resumed with equal keys after two), the rest in 4."""
    ids, _ = watch(monkeypatch)
    run, last = tmp_path / "run", tmp_path / "run" / "last.ckpt"
    fit(config(root, "trainer.max_steps=1"), run)
    for batch_size, end in ((1, 3), (1, 5), (4, 7)):
        steps = f"trainer.max_steps={end}"
        caplog.clear()
        fit(config(root, f"loader.batch_size={batch_size}", steps), run, resume=last)
        said = [record.message for record in caplog.records if record.name == "mbvision.engine.data_module"]
        assert len(said) == (end != 5), "a run that continues exactly has nothing to report"
    assert said == [
        "batches of 4 on 1 process (they were 1 on 1 process): 6 of 7 samples of epoch 0 were shown, left are"
        " 1 in 1 batches; optimizer.lr stays, the schedule ends at step 7"
    ]
    assert [len(batch) for batch in ids] == [2, 1, 1, 1, 1, 1, 4]
    assert sorted(image for batch in ids[:-1] for image in batch) == list(range(1, 8))
    scored = [row for row in (run / "metrics.csv").read_text().splitlines()[1:] if row.split(",")[-1]]
    assert [row.split(",")[0] for row in scored] == ["5"]  # after the step that ended the epoch
    state = checkpoint.read(last)["VisionData"]
    assert (state["epoch"], state["shown"], state["batch_size"]) == (1, 4, 4)


def test_a_resumed_run_trains_with_the_optimizer_settings_that_it_is_given(root: Path, tmp_path: Path) -> None:
    """Those of the checkpoint's optimizer and schedule are of the run that wrote it."""
    fit(config(root, "trainer.max_epochs=1", "schedule=step"), tmp_path)
    given = ["schedule=step", "optimizer.lr=0.5", "optimizer.weight_decay=0.25", "optimizer.momentum=0.5"]
    fit(config(root, *given, "trainer.max_epochs=2"), tmp_path, resume=tmp_path / "last.ckpt")
    rates = [line.split(",")[2] for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert rates[0] == "lr-SGD/pg1" and [float(rate) for rate in rates[5:9]] == pytest.approx([0.5, 0.5, 0.05, 0.05])
    (state,) = checkpoint.read(tmp_path / "last.ckpt")["optimizer_states"]
    assert [(g["momentum"], g["weight_decay"]) for g in state["param_groups"]] == [(0.5, 0.25), (0.5, 0.0)]


def test_an_epoch_of_a_data_set_that_has_grown_starts_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids, _ = watch(monkeypatch)
    fit(config(root, "trainer.max_steps=1"), tmp_path)
    grown = write_coco(tmp_path / "grown", train=9, val=2)
    fit(config(grown, "trainer.max_epochs=1"), tmp_path, resume=tmp_path / "last.ckpt")
    assert "(7 samples then, 9 now): epoch 0, of which 2 samples were shown, starts again" in caplog.text
    assert sorted(image for batch in ids[1:] for image in batch) == list(range(1, 10))
    assert checkpoint.read(tmp_path / "last.ckpt")["VisionData"]["finished"]


def test_a_resumed_run_does_not_need_the_weights_that_it_started_from(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, run = tmp_path / "start.ckpt", tmp_path / "run"
    fit(config(root, "trainer.max_steps=1"), tmp_path)
    (tmp_path / "last.ckpt").rename(start)
    given = [f"pretrained={start}", "freeze=backbone", "trainer.max_steps=1"]
    assert commands.run(train.main, [*arguments(root, *given), f"run_dir={run}"]) == 0
    start.unlink()
    resume = f"resume={run}/last.ckpt"
    assert commands.run(train.main, [resume, "trainer.max_steps=2"]) == 0
    assert checkpoint.read(run / "last.ckpt")["global_step"] == 2
    assert commands.run(train.main, [resume, f"pretrained={run}/best.ckpt"]) == 2
    assert "a run that is resumed has the weights of its checkpoint" in capsys.readouterr().err
    assert commands.run(train.main, [resume, "freeze=null"]) == 2
    assert "with these keys it would train 234: freeze= cannot change" in capsys.readouterr().err


def test_a_run_resumed_without_an_average_continues_with_the_weights_themselves(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(config(root, "trainer.max_steps=1"), tmp_path)
    _, states = watch(monkeypatch)
    content = checkpoint.read(tmp_path / "last.ckpt")
    fit(config(root, "trainer.max_steps=2", "ema_decay=null"), tmp_path, resume=tmp_path / "last.ckpt")
    own = {key.removeprefix("network."): value for key, value in content["current_model_state"].items()}
    assert not differing(states[0], own)


def test_accumulated_gradients_resume_exactly(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(
        root,
        "loader.batch_size=1",
        "trainer.accumulate_grad_batches=3",
        "trainer.max_epochs=1",
        "checkpoint_every_n_steps=1",
    )
    with monkeypatch.context() as patch:
        keep_every_checkpoint(patch, tmp_path)
        fit(settings, tmp_path / "whole")
    fit(settings, tmp_path / "resumed", resume=tmp_path / "step_1.ckpt")
    whole, resumed = (checkpoint.read(tmp_path / name / "last.ckpt") for name in ("whole", "resumed"))
    assert whole["global_step"] == 3
    assert_equal_runs(resumed, whole)


def wait_for_step(path: Path, step: int, process: "subprocess.Popen[bytes]") -> None:
    """Read the checkpoint again and again until it has come so far: it can be loaded at any moment."""
    deadline = time.monotonic() + 300
    while not path.exists() or checkpoint.read(path)["global_step"] < step:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.01)


def test_a_run_killed_in_mid_epoch_resumes_in_its_folder_and_ends_as_one_never_stopped(
    root: Path, tmp_path: Path
) -> None:
    settings = ["trainer.max_epochs=3", "trainer.check_val_every_n_epoch=3", "checkpoint_every_n_steps=1"]
    run, whole = tmp_path / "killed = [1]", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, REPOSITORY / "tools" / "train.py", *arguments(root, *settings), f"run_dir={run}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_step(run / "last.ckpt", 5, process)
    finally:
        process.kill()
        process.wait()
    stopped = checkpoint.read(run / "last.ckpt")["global_step"]
    assert 5 <= stopped < 12
    (run / ".last.ckpt.123.partial").write_bytes(b"what a kill may leave behind")
    rows = (run / "metrics.csv").read_text().splitlines()
    assert train.main([f"resume={run / 'last.ckpt'}"]) == 0
    assert train.main([*arguments(root, *settings), f"run_dir={whole}"]) == 0
    assert_equal_runs(checkpoint.read(run / "last.ckpt"), checkpoint.read(whole / "last.ckpt"))
    assert not differing(*(checkpoint.read(folder / "best.ckpt")["state_dict"] for folder in (run, whole)))
    assert (run / "metrics.json").read_text() == (whole / "metrics.json").read_text()
    assert not list(run.glob(".*.partial")) and {p.name for p in run.iterdir()} == {p.name for p in whole.iterdir()}
    table = (run / "metrics.csv").read_text().splitlines()
    steps = [int(row.split(",")[0]) for row in table[1:]]
    assert steps == list(range(12))  # no gap, nothing twice
    assert rows[1].split(",")[:4] == table[1].split(",")[:4]
