"""Readers that die, full disks, folders and shared memory that will not do: one line, and what was saved stays."""

import errno
import logging
import os
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from mbvision import checkpoint
from mbvision.commands import fitting, machine, resuming, run, train
from mbvision.commands.run_folder import check_writable
from mbvision.data.boxes import BoxReader
from mbvision.data.coco import coco
from mbvision.data.transforms.evaluation import NativeTransform
from mbvision.engine.data_module import VisionData
from mbvision.engine.labels import check_box_labels
from mbvision.engine.module import VisionModule
from mbvision.engine.out_of_memory import told_when_memory_runs_out
from mbvision.errors import AnnotationError, CheckpointError, ConfigError, TrainingError
from mbvision.structures import Geometry, Sample, Target
from mbvision.writing import temporary_of, writing
from tests.tiny_runs import arguments, build, config, fit, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=6, val=2)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_reader_that_dies_is_told_with_its_signal_and_its_picture(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    read = BoxReader.read

    def die(self: BoxReader, index: int) -> Sample:
        if self.annotations.image_ids[index] == 4:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        return read(self, index)

    monkeypatch.setattr(BoxReader, "read", die)
    with pytest.raises(TrainingError, match=rf"process \d+, .* was killed by {signum.name}; in its hands: image 4: "):
        fit(config(root, "loader.workers=1"), tmp_path)


def test_a_reader_that_was_killed_while_it_waited_is_told_with_its_signal(root: Path) -> None:
    """In the words of torch's own handler, which may interrupt anything; the process may be forgotten by then."""
    data = VisionData(
        train_reader=None,
        val_reader=coco(root=str(root), split="val"),
        train_transform=None,
        val_transform=NativeTransform(),
        batch_size=1,
        workers=1,
    )
    told = f"DataLoader worker (pid {2**22 + 1}) is killed by signal: {signal.strsignal(signal.SIGBUS)}. It is possible"
    with (
        pytest.raises(TrainingError, match=rf"^process {2**22 + 1}, .* by SIGBUS; in its hands: no picture: "),
        data.worker_errors(),
    ):
        raise RuntimeError(told)


@pytest.mark.parametrize(
    ("name", "step"),
    [("metrics.csv", 1), ("last.ckpt", 1), ("samples/val_0.png", 2)],
)
def test_a_disk_that_fills_up_names_the_file_and_leaves_the_old_checkpoint(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    step: int,
) -> None:
    """/dev/full refuses every byte as a full disk does; it takes the place of the temporary file in the second step."""
    whole = tmp_path / "run" / name
    place = temporary_of(whole)
    train_step = VisionModule.training_step

    def fill(self: VisionModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 1:
            place.symlink_to("/dev/full")
        return train_step(self, batch, batch_idx)

    monkeypatch.setattr(VisionModule, "training_step", fill)
    assert run(train.main, [*arguments(root, "checkpoint_every_n_steps=1"), f"run_dir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: {whole}") and "No space left on device" in told
    assert checkpoint.read(tmp_path / "run" / "last.ckpt")["global_step"] == step


def test_an_error_of_the_system_without_a_file_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert run(fail, []) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("error: No space left on device: free some space there, or name another folder")
    )
    with pytest.raises(OSError, match=r"a\.csv") as caught, writing(Path("a.csv")):
        raise OSError(errno.ENOSPC, "anything")
    assert caught.value.filename == "a.csv"


def test_a_folder_that_cannot_be_written_is_told_before_data_are_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting, "build_readers", lambda config: pytest.fail("data were read"))
    (tmp_path / "file").write_text("")
    for folder, words in ((tmp_path / "file" / "run", "is a file"), (tmp_path / "new" / "run", "is read-only")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, mode: False)  # the administrator may write everywhere
            assert run(train.main, [*arguments(root), f"run_dir={folder}"]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
    check_writable(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_too_little_shared_memory_is_told_with_the_figures_before_data_are_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 processes x 2 batches x 64 pictures x 320 x 320 pixels x 3 bytes are 75 MiB; masks make it 100."""
    assert machine.shared_memory_needed(workers=2, batch_size=64, size=(320, 320), masks=False) == 75 * 2**20
    assert machine.shared_memory_needed(workers=2, batch_size=64, size=(320, 320), masks=True) == 100 * 2**20
    monkeypatch.setattr(fitting, "build_readers", lambda config: pytest.fail("data were read"))
    monkeypatch.setattr(machine, "shared_memory", lambda: 16 * 2**20)
    line = [*arguments(root), "input_size=320", "loader.batch_size=64", "loader.workers=2", f"run_dir={tmp_path}/run"]
    assert run(train.main, line) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "need 75 MiB of shared memory; /dev/shm has 16 MiB free" in told and "loader.workers=0" in told
    settings = config(root, "input_size=320", "loader.batch_size=64", "loader.workers=0")
    machine.check_machine(settings, (320, 320))
    monkeypatch.setattr(machine, "shared_memory", lambda: None)  # no /dev/shm: macOS
    machine.check_machine({**settings, "loader": {"batch_size": 64, "workers": 1}}, (320, 320))


@pytest.mark.parametrize("devices", ["99", "[0,1,2]"])
def test_more_training_processes_than_cores_are_refused(devices: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)
    settings = config(tmp_path, f"trainer.devices={devices}")
    with pytest.raises(ConfigError, match=r"trainer\.devices=.*: without a GPU .* there are 2 cores"):
        machine.check_machine(settings, (64, 64))
    machine.check_machine(config(tmp_path, "trainer.devices=2"), (64, 64))


def test_more_reading_processes_than_cores_are_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert machine.too_many_workers(4, 1, 4) == ""
    assert "loader.workers=5 with 1 thread each are more than the 4 cores" in machine.too_many_workers(5, 1, 4)
    assert "in each of 2 processes" in machine.too_many_workers(3, 2, 4) and "workers=2 uses" in (
        machine.too_many_workers(3, 2, 4)
    )
    trainer = {"accelerator": "cpu"}
    assert [machine.local_processes({**trainer, "devices": d}) for d in (2, "auto", [0, 1, 3], -1)] == [2, 1, 3, 1]
    with caplog.at_level(logging.WARNING):
        machine.check_machine(config(root, f"loader.workers={machine.cores() + 1}"), (64, 64))
    assert "more than the" in caplog.text


def test_a_label_that_is_no_class_names_its_image() -> None:
    def target(image_id: int, *labels: int) -> Target:
        return Target(image_id=image_id, geometry=Geometry(original=(4, 4)), box_labels=torch.tensor(labels))

    check_box_labels([target(1, 0, 1), target(2), target(3, 1)], 2)
    check_box_labels([Target(image_id=1, geometry=Geometry(original=(4, 4)))], 2)
    for wrong in (2, -1):
        with pytest.raises(AnnotationError, match=rf"image 3: a box of it has the label {wrong}, .* 2 classes, 0 to 1"):
            check_box_labels([target(1, 0), target(2), target(3, 1, wrong)], 2)


def test_a_training_stops_at_a_wrong_label_before_the_network_sees_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VisionModule, "training_step", lambda *arguments: pytest.fail("a step was taken"))
    settings = config(root)
    module, data = build(settings)
    assert data.train_reader is not None
    data.train_reader.class_names = {"detection": ["bright"]}
    with pytest.raises(AnnotationError, match="has the label 1, the network has 1 classes"):
        fitting.fit(settings, module, data, tmp_path, None)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
    ],
)
def test_memory_that_runs_out_is_told_with_what_takes_it(error: Exception) -> None:
    with (
        pytest.raises(
            TrainingError, match=r"loader\.batch_size=8 and input_size=\[320, 640\]: lower one of them; more$"
        ),
        told_when_memory_runs_out(batch_size=8, size=[320, 640], then="; more"),
    ):
        raise error
    with pytest.raises(RuntimeError, match="another"), told_when_memory_runs_out(batch_size=8, size=320):
        raise RuntimeError("another")


def test_a_checkpoint_says_with_what_it_was_written_and_what_comes_next(root: Path, tmp_path: Path) -> None:
    fit(config(root, "trainer.max_steps=1", "checkpoint_every_n_steps=1", "trainer.limit_val_batches=0"), tmp_path)
    content = checkpoint.read(tmp_path / "last.ckpt")
    assert content["mbvision"]["versions"]["torch"] == version("torch") and "version" in content["mbvision"]
    (state,) = content["random"]
    assert set(state) == {"python", "numpy", "torch", "cuda"}
    place = content["VisionData"]
    assert (place["epoch"], place["shown"], place["finished"], place["length"]) == (0, 2, False, 6)
    assert {"optimizer_states", "lr_schedulers", "averaging_state", "loops", "sha256"} <= set(content)
    assert set(content["mbvision"]) >= {"config", "class_names", "optimizer"}
    content["random"] = None
    checkpoint.write(tmp_path / "other.ckpt", content)
    with pytest.raises(CheckpointError, match="no random states"):
        fit(config(root), tmp_path / "again", resume=tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match="2 classes of detection, the data 1"):
        resuming.check_same_classes(tmp_path / "last.ckpt", {"detection": ["bright"]})
