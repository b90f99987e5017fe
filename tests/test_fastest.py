"""A checkpoint in the runtime that is fastest here: chosen by time, exported once, with the network's numbers."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import mbvision
from mbvision import checkpoint
from mbvision.commands import predict, run
from mbvision.commands.predict_sources import count_pictures
from mbvision.deploy import fastest
from mbvision.deploy.export import Exported
from mbvision.deploy.exported import Eager, ExportedNetwork
from mbvision.deploy.latency import WHOLE, Case, Spent
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.errors import ConfigError
from mbvision.network import Network
from tests.tiny_checkpoints import write_checkpoint
from tests.video_clips import encode

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A checkpoint that was opened with ``runtime=auto`` before, with ONNX Runtime to choose from."""
    path = write_checkpoint(tmp_path_factory.mktemp("segmenter") / "a.ckpt", "task=lraspp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MBVISION_CACHE", str(cache))
        patch.setattr(fastest, "installed", lambda: ["onnx"])
        mbvision.load(path, device="cpu", runtime="auto")
    return path


@pytest.fixture(autouse=True)
def _in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MBVISION_CACHE", str(cache))
    monkeypatch.setattr(fastest, "installed", lambda: ["onnx"])
    caplog.set_level(logging.INFO)


def no_export(*_: object, **__: object) -> None:
    raise AssertionError("exported once more")


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def test_a_few_pictures_are_not_worth_an_export(
    segmenter: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MBVISION_CACHE", str(tmp_path))
    monkeypatch.setattr(fastest, "export", no_export)
    model = mbvision.load(segmenter, device="cpu", runtime="auto", pictures=fastest.WORTH - 1)
    assert isinstance(model.network, Network) and caplog.messages == [
        "runtime=auto: torch; for so few pictures an export does not pay, runtime=onnx makes one all the same"
    ]


def test_the_checkpoint_is_exported_once_and_gives_its_own_numbers(
    segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fastest.folder_of(segmenter)
    assert {path.name for path in folder.iterdir()} == {"network.onnx", "choice-1.json"}
    times = json.loads((folder / "choice-1.json").read_text())
    assert set(times) == {"torch", "onnx"} and min(times.values()) > 0
    monkeypatch.setattr(fastest, "export", no_export)
    kept, plain = mbvision.load(segmenter, device="cpu", runtime="onnx"), mbvision.load(segmenter, device="cpu")
    assert isinstance(kept.network, ExportedNetwork)
    inputs, _ = plain.inputs([picture()])
    expected = plain.compute(inputs)["segmentation"].logits
    np.testing.assert_allclose(kept.compute(inputs)["segmentation"]["logits"], expected, atol=1e-4)
    one, other = plain.predict(picture()).mask, kept.predict(picture()).mask
    assert one is not None and other is not None and (one == other).mean() > 0.999


@pytest.mark.parametrize(("fast", "slow", "kind"), [("onnx", "torch", ExportedNetwork), ("torch", "onnx", Network)])
def test_the_fastest_is_taken_and_said_in_one_line(
    fast: str,
    slow: str,
    kind: type,
    segmenter: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (fastest.folder_of(segmenter) / "choice-1.json").unlink()
    monkeypatch.setattr(fastest, "_measured", lambda *_: {slow: 8.0, fast: 2.0})
    model = mbvision.load(segmenter, device="cpu", runtime="auto", pictures=fastest.WORTH)
    said = f"runtime=auto: {fast}, the fastest here (a picture: {fast} 2.0 ms, {slow} 8.0 ms)"
    assert isinstance(model.network, kind) and caplog.messages[-1] == said
    monkeypatch.setattr(fastest, "_measured", no_export)
    assert isinstance(mbvision.load(segmenter, device="cpu", runtime="auto", pictures=1).network, kind)


def test_what_is_timed_is_every_runtime_and_torch(
    segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def times(cases: list[Case], *, rounds: int) -> dict[str, dict[str, Spent]]:
        for case in cases:
            case.run(None)
        timed.extend(case.name for case in cases)
        return {case.name: {WHOLE: Spent([], [9.0, 5.0 - len(case.name), 8.0])} for case in cases}

    network, tasks = checkpoint.load(segmenter)
    made = DeployedNetwork(network=network.eval(), tasks=tasks, masks="logits")
    pictures = [torch.rand(2, 3, 64, 64)]
    done = Exported(Path(), [], Eager(made, {}), pictures, None, None, 0.0)
    monkeypatch.setattr(fastest, "_export", lambda *_: done)
    monkeypatch.setattr(fastest, "interleaved", times)
    assert fastest._measured(segmenter, fastest.folder_of(segmenter), ["onnx"]) == {"torch": 0.0, "onnx": 1.0}
    assert timed == ["torch", "onnx"]


def test_another_checkpoint_has_a_folder_of_its_own(segmenter: Path, tmp_path: Path) -> None:
    copied = tmp_path / "b.ckpt"
    copied.write_bytes(segmenter.read_bytes())
    assert fastest.folder_of(copied) == fastest.folder_of(segmenter)
    other = write_checkpoint(tmp_path / "c.ckpt", "task=lraspp", seed=1)
    assert fastest.folder_of(other) != fastest.folder_of(segmenter)


def test_a_network_that_cannot_be_exported_is_computed_by_torch(
    segmenter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator\nmore")

    monkeypatch.setenv("MBVISION_CACHE", str(tmp_path))
    monkeypatch.setattr(fastest, "export", fails)
    assert isinstance(mbvision.load(segmenter, device="cpu", runtime="auto").network, Network)
    assert caplog.messages[-1] == "runtime=auto: torch, as the export failed: no such operator"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runtime", ["onnx", "auto"])
def test_a_file_that_was_damaged_in_the_cache_is_made_anew(
    runtime: str, segmenter: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fastest.folder_of(segmenter)
    (folder / "choice-1.json").write_text('{"torch": 8.0, "onnx": 2.0}')
    (folder / "network.onnx").write_bytes((folder / "network.onnx").read_bytes()[:999])
    model = mbvision.load(segmenter, device="cpu", runtime=runtime)
    assert isinstance(model.network, ExportedNetwork) and len(model.predict([picture()])) == 1
    assert any("network.onnx is no ONNX file" in line and "it is made anew" in line for line in caplog.messages)


def test_only_what_was_used_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBVISION_CACHE", str(tmp_path))
    for number in range(fastest.KEPT + 2):
        folder = tmp_path / f"{number:032x}"
        folder.mkdir()
        fastest.os.utime(folder, (number, number))
    (tmp_path / "mine").mkdir()
    fastest._prune()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"mine", *(f"{number:032x}" for number in range(2, fastest.KEPT + 2))}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"runtime": "tvm"}, "runtime=tvm: choose auto, torch, onnx, openvino"),
        ({"precision": "int4"}, "precision=int4: choose float32, bf16"),
        ({"runtime": "onnx", "device": "cuda:0"}, "device=cuda:0: runtime=onnx computes on the processor"),
        ({"precision": "bf16", "device": "mps"}, "device=mps: precision=bf16 computes on the processor"),
        ({"precision": "bf16", "runtime": "onnx"}, "precision=bf16: runtime=onnx has it not; runtime=openvino has"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, str], message: str, segmenter: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        mbvision.load(segmenter, **keys)  # type: ignore[arg-type]  # by test


def test_an_exported_file_runs_as_it_is(segmenter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runtime=openvino: a\.onnx runs as it was exported"):
        mbvision.load("a.onnx", runtime="openvino")
    with pytest.raises(ConfigError, match=r"precision=bf16: a\.onnx is not OpenVINO's"):
        mbvision.load("a.onnx", precision="bf16")
    with pytest.raises(ConfigError, match=r"device=cuda: a\.onnx computes on the processor"):
        mbvision.load("a.onnx", device="cuda")
    file = fastest.folder_of(segmenter) / "network.onnx"
    assert isinstance(mbvision.load(file, runtime="onnx").network, ExportedNetwork)


def test_bfloat16_is_coarser_and_only_when_asked(segmenter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    plain = mbvision.load(segmenter, device="cpu")
    inputs, _ = plain.inputs([picture()])
    expected = plain.compute(inputs)["segmentation"].logits.numpy()
    apart = []
    for precision in ("float32", "bf16"):
        model = mbvision.load(segmenter, runtime="openvino", precision=precision)
        apart.append(np.abs(model.compute(inputs)["segmentation"]["logits"].numpy() - expected).max())
    assert apart[0] < 1e-4 < apart[1] < 0.1 * np.abs(expected).max()


def test_pictures_and_frames_are_counted(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", format="mp4", codec="libx264")
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    assert count_pictures("folder", [Path("a.jpg")] * 3, [clip, damaged]) == 23
    assert count_pictures("camera:0", [], []) is None


def test_predict_takes_the_runtime_that_is_named(
    segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    keys = [f"checkpoint={segmenter}", f"source={tmp_path}/a.png", f"output={tmp_path}/out", "device=cpu"]
    assert run(predict.main, [*keys, "runtime=onnx", "save=masks"]) == 0
    expected = mbvision.load(segmenter, device="cpu").predict(tmp_path / "a.png").mask
    assert (cv2.imread(str(tmp_path / "out/a.png"), cv2.IMREAD_UNCHANGED) == expected).mean() > 0.999
    assert run(predict.main, [*keys, "runtime=tensorrt"]) == 2
    assert "runtime=tensorrt: choose auto, torch, onnx, openvino" in capsys.readouterr().err
