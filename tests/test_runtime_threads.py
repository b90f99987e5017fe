"""Runtimes of exported files: called from several threads at once, and on a number of threads that was asked for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mbvision.commands import evaluate, export, predict
from mbvision.commands.threads import computing_on
from mbvision.deploy import onnx
from mbvision.deploy.export import export as export_file
from mbvision.deploy.exported import Eager
from mbvision.deploy.formats import FORMATS
from mbvision.deploy.runtime import Runtime
from mbvision.deploy.samples import sample_pictures
from tests.tiny_checkpoints import write_checkpoint

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "executorch": "executorch", "torch_export": "torch"}
CALLERS, CALLS = 8, 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("segmenter") / "a.ckpt", "task=lraspp")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _assert_callable_from_threads(runtime: Runtime) -> None:
    _, height, width = runtime.shape
    shape = (1, 3, height or 64, width or 64)
    images = [np.random.default_rng(seed).random(shape, dtype=np.float32) for seed in range(CALLERS)]
    expected = [runtime.run(one) for one in images]

    def wrong(caller: int) -> int:
        answers = (runtime.run(images[caller]) for _ in range(CALLS))
        return sum(not np.array_equal(answer[name], expected[caller][name]) for answer in answers for name in answer)

    with ThreadPoolExecutor(CALLERS) as pool:
        assert list(pool.map(wrong, range(CALLERS))) == [0] * CALLERS


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", PACKAGES)
def test_every_runtime_may_be_called_from_several_threads(name: str, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"{PACKAGES[name]} is not installed")
    path = tmp_path / f"a{FORMATS[name].suffix}"
    done = export_file(checkpoint, path, format=name, pictures=sample_pictures, masks="logits")
    opened = FORMATS[name].runtime
    assert opened is not None
    _assert_callable_from_threads(opened(path))
    assert isinstance(done.eager, Eager)
    _assert_callable_from_threads(done.eager)


def test_onnx_runtime_computes_on_as_many_threads_as_torch_and_does_not_spin(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path / "a.onnx"
    export_file(checkpoint, path, format="onnx", pictures=sample_pictures)
    sessions: list[Any] = []
    made = onnxruntime.InferenceSession

    def session(*arguments: Any, **others: Any) -> Any:
        sessions.append(made(*arguments, **others))
        return sessions[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for count in (1, 3):
        torch.set_num_threads(count)
        onnx.OnnxRuntime(path)
    onnx.OnnxRuntime(path, threads=2)
    options = [one.get_session_options() for one in sessions]
    assert [one.intra_op_num_threads for one in options] == [1, 3, 2]
    assert {one.get_session_config_entry("session.intra_op.allow_spinning") for one in options} == {"0"}


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    with computing_on(None):
        assert torch.get_num_threads() == before[0]
    with pytest.raises(ZeroDivisionError), computing_on(before[0] + 2):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (before[0] + 2, before[0] + 2)
        _ = 1 / 0
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


@pytest.mark.parametrize(
    ("command", "entry", "arguments"),
    [
        (predict, "mbvision.commands.predict.predict", ["source=a.jpg"]),
        (evaluate, "mbvision.commands.scoring.score_checkpoint", []),
        (export, "mbvision.commands.export.write_network", ["output=b.onnx"]),
    ],
    ids=["predict", "evaluate", "export"],
)
def test_commands_compute_on_the_threads_asked_for(
    command: Any, entry: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def entered(*_: object) -> None:
        asked.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.ckpt").touch()
    monkeypatch.setattr(entry, entered)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        command.main(["checkpoint=a.ckpt", *arguments, f"threads={before + 2}"])
    assert asked == [before + 2]
    assert torch.get_num_threads() == before
