"""A run that a signal asks to stop ends its step, saves, tells so in one line, and goes on bit for bit."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mbvision import checkpoint, stopping
from mbvision.commands import evaluate, fitting, requeue, run, train
from mbvision.engine.module import VisionModule
from mbvision.stopping import Stopped
from tests.tiny_runs import arguments, config, differing, fit, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=6, val=5)


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody stopped: two epochs of three steps, three validation batches after each."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    fit(config(root), folder)
    return folder


def interrupt(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int, *signals: signal.Signals) -> None:
    """Send signals to this process in the middle of the ``call``-th call (from 1) of a method."""
    original, calls = getattr(owner, method), []

    def wrapped(*positional: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            for signum in signals:
                os.kill(os.getpid(), signum)
        return original(*positional, **named)

    monkeypatch.setattr(owner, method, wrapped)


def assert_equal_states(found: Path, expected: Path) -> None:
    a, b = (checkpoint.read(path) for path in (found, expected))
    assert not differing(a["state_dict"], b["state_dict"])
    assert not differing(a["current_model_state"], b["current_model_state"])
    assert (
        a["lr_schedulers"] == b["lr_schedulers"]
        and a["callbacks"]["RunCheckpoints"] == b["callbacks"]["RunCheckpoints"]
    )
    assert (a["epoch"], a["global_step"]) == (b["epoch"], b["global_step"])


@pytest.mark.parametrize(
    ("method", "call", "signum", "step"),
    [
        ("training_step", 2, signal.SIGTERM, 2),
        ("training_step", 3, signal.SIGINT, 3),  # a validation would follow
        ("validation_step", 2, signal.SIGUSR1, 3),
        ("training_step", 6, signal.SIGTERM, 6),
    ],
)
def test_a_signal_ends_the_step_saves_and_the_resumed_run_ends_as_the_one_never_stopped(
    root: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
    signum: signal.Signals,
    step: int,
) -> None:
    with monkeypatch.context() as patch, stopping.listening(), pytest.raises(Stopped) as caught:
        interrupt(patch, VisionModule, method, call, signum)
        fit(config(root), tmp_path)
    last = tmp_path / "last.ckpt"
    assert str(caught.value) == f"stopped by {signum.name} after step {step}; resume={last} goes on"
    assert checkpoint.read(last)["global_step"] == step
    fit(config(root), tmp_path, resume=last)
    assert_equal_states(last, whole / "last.ckpt")
    assert (tmp_path / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_a_second_ctrl_c_does_not_wait_for_the_step(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, VisionModule, "training_step", 2, signal.SIGINT, signal.SIGINT)
    with stopping.listening(), pytest.raises(Stopped, match=r"^stopped by SIGINT$"):
        fit(config(root), tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)])
def test_a_signal_during_the_start_is_one_line_and_the_code_that_shells_know(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signum: signal.Signals,
    code: int,
) -> None:
    before = [signal.getsignal(known) for known in stopping.SIGNALS]
    monkeypatch.setattr(fitting, "build_readers", lambda config: os.kill(os.getpid(), signum))
    assert run(train.main, [*arguments(root), f"run_dir={tmp_path / 'run'}"]) == code
    assert capsys.readouterr().err.splitlines() == [f"stopped by {signum.name}"]
    assert [signal.getsignal(known) for known in stopping.SIGNALS] == before
    assert not (tmp_path / "run").exists()


def test_a_signal_ends_an_evaluation_with_one_line(
    root: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(monkeypatch, VisionModule, "validation_step", 2, signal.SIGTERM)
    data = ["data=coco", f"data.root={root}", "data.val_split=val", "loader.workers=0", "loader.batch_size=1"]
    line = [f"checkpoint={whole / 'best.ckpt'}", "device=cpu", f"output_dir={tmp_path / 'found'}"]
    assert run(evaluate.main, [*data, *line]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "stopped by SIGTERM"
    assert not (tmp_path / "found").exists()


def test_signals_reach_a_forked_process_without_effect_and_other_threads_do_not_listen() -> None:
    with stopping.listening():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        handlers = [signal.getsignal(known) for known in stopping.SIGNALS]

        def listen() -> None:
            with stopping.listening():
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        assert [signal.getsignal(known) for known in stopping.SIGNALS] == handlers


def test_an_unseen_signal_is_acted_upon_when_deferring_ends() -> None:
    with stopping.listening(), pytest.raises(Stopped, match="SIGTERM at the end"):
        stopping.defer()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.requested() == signal.SIGTERM
        stopping.resume_raising("at the end")


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a stand-in for SLURM's scontrol notes its arguments."""
    notes = tmp_path / "called"
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {notes}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    return notes


def test_slurms_warning_saves_queues_the_job_again_and_the_same_command_goes_on(
    root: Path, scontrol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    line = [*arguments(root, "trainer.max_epochs=1"), f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        interrupt(patch, VisionModule, "training_step", 2, signal.SIGUSR1)
        assert run(train.main, line) == 143
    assert scontrol.read_text() == "requeue 123\n"
    assert checkpoint.read(tmp_path / "run" / "last.ckpt")["global_step"] == 2
    assert run(train.main, line) == 2  # the folder holds another run
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run(train.main, line) == 0
    assert checkpoint.read(tmp_path / "run" / "last.ckpt")["global_step"] == 3
    assert "holds another run" in capsys.readouterr().err


def test_only_batch_jobs_are_queued_again_and_arrays_by_their_own_name(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert requeue.job_id({"SLURM_JOB_ID": "5", "SLURM_ARRAY_JOB_ID": "4", "SLURM_ARRAY_TASK_ID": "2"}) == "4_2"
    for environment in ({}, {"SLURM_JOB_ID": "5", "SLURM_JOB_NAME": "bash"}, {"SLURM_JOB_ID": "5; reboot"}):
        assert requeue.job_id(environment) is None
        requeue.requeue(environment)
    monkeypatch.setenv("SLURM_PROCID", "1")
    requeue.requeue({"SLURM_JOB_ID": "5"})
    assert not scontrol.exists()


def test_loader_processes_ignore_the_signals(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get a Ctrl-C of the terminal too, and must still deliver the batches of the step that is ended."""
    import multiprocessing

    seen: list[int] = []
    original: Callable[..., Any] = VisionModule.training_step
    others = {child.pid for child in multiprocessing.active_children()}  # of tests before this one

    def step(self: VisionModule, batch: Any, batch_idx: int) -> torch.Tensor:
        workers = [child for child in multiprocessing.active_children() if child.daemon and child.pid not in others]
        for worker in workers:
            assert worker.pid is not None
            for signum in stopping.SIGNALS:
                os.kill(worker.pid, signum)
        time.sleep(0.05)
        seen.append(sum(worker.is_alive() for worker in workers))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(VisionModule, "training_step", step)
    with stopping.listening():
        fit(config(root, "loader.workers=1", "trainer.max_epochs=1", "trainer.limit_val_batches=0"), tmp_path)
    assert seen == [1, 1, 1]
