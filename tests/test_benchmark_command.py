"""``benchmark``: what it measures of whom, what it prints, draws and writes."""

import json
import mmap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mbvision.analysis.complexity import count
from mbvision.checkpoint import load
from mbvision.commands import benchmark, contestants, peak_memory, run
from mbvision.commands.benchmark_tables import format_result
from mbvision.commands.contestants import FIT, NETWORK, POST, Contestant
from mbvision.deploy.export import export
from mbvision.deploy.samples import sample_pictures
from mbvision.draw_benchmark import plot_benchmark
from tests.tiny_checkpoints import write_checkpoint


def times(milliseconds: float) -> dict[str, float]:
    return {f"{kind}_ms_{name}": milliseconds for kind in ("cpu", "wall") for name in ("median", "p95")}


def result(*names: str) -> dict[str, Any]:
    """Every runtime takes twice the network's time of the one before it."""
    rows = {
        name: {FIT: times(1), NETWORK: times(4 * 2**place), POST: times(2), "whole": times(3 + 4 * 2**place)}
        for place, name in enumerate(names)
    }
    sizes = {name: {"megabytes": 1.5, "peak_megabytes": None if place else 20.25} for place, name in enumerate(names)}
    sizes[names[0]] |= {"score": {"AP50": 0.51239}, "pictures": 48}  # type: ignore[dict-item]  # beside numbers
    return {
        "machine": {"processor": "Abacus", "cores": "2", "load": "0.5", "torch": "9.9"},
        "checkpoint": "runs/best.ckpt",
        "input_size": [64, 96],
        "networks": {"torch": {"network": "SSDLite", "parameters": 1234, "madds": 5678, "same": True}},
        "left_out": {"coreml": "no reason"},
        "contestants": sizes,
        "rounds": 7,
        "latency": [{"threads": 1, "batch": batch, "contestants": rows} for batch in (1, 4)],
        "profile": {"torch": [{"name": "backbone.stem", "kind": "Conv2d", "ms": 1.25, "share": 0.5}]},
    }


def test_the_table_names_everything_and_compares_with_torchvision() -> None:
    lines = format_result(result("onnx", "torch", "torchvision")).splitlines()
    assert lines[0] == "runs/best.ckpt, input 64x96" and lines[1].startswith("Abacus, 2 cores, load 0.5; torch 9.9")
    assert "torch: SSDLite, 1,234 parameters, 5,678 multiply-adds" in lines
    assert "left out: coreml: no reason" in lines
    cells = [line.split() for line in lines]
    assert ["MB", "peak", "MB", "pictures", "AP50"] in cells
    assert ["onnx", "1.50", "20.2", "48", "0.5124"] in cells and ["torch", "1.50", "-", "-", "-"] in cells
    # beside a network of 16 ms and a whole of 19 ms
    fast = ["onnx", "1.00", "4.00", "4.00", "4.00x", "2.00", "7.00", "7.00", "2.71x", "7.00", "7.00"]
    assert cells.count(fast) == 2
    assert ["backbone.stem", "Conv2d", "1.250", "50.0"] in cells
    assert any(line.endswith("batch 4: CPU ms a picture, 7 rounds in turn; speed beside torchvision") for line in lines)


def test_without_a_peer_the_comparison_is_with_torch() -> None:
    text = format_result(result("torch", "onnx"))
    assert "speed beside torch\n" in text and "0.50x" in text


def test_the_picture_has_a_panel_for_each_table_and_one_of_sizes(tmp_path: Path) -> None:
    plot_benchmark(tmp_path / "new" / "a.png", result("torch", "onnx"))
    image = cv2.imread(str(tmp_path / "new" / "a.png"))
    blue = np.array([0xAF, 0x75, 0x3B])  # of the network's stage, as BGR
    columns = (image == blue).all(axis=2).any(axis=0)
    bars = np.flatnonzero(np.diff(columns.astype(int)) == 1)
    assert len(bars) >= 2 and image.shape[1] > 2 * image.shape[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["formats=[coreml]"], "formats=['coreml']: coreml does not run here; choose of onnx"),
        (["files=[nowhere.onnx]"], "files: nowhere.onnx is no file that ends in .onnx, .xml, .pte"),
        (["output=a.csv"], "output=a.csv: give a file that ends in .json"),
        (["output=/proc/none/a.json"], "output=/proc/none/a.json: the folder cannot be made"),
        (["batches=[]"], "batches=[]: name at least one"),
        (["batches=[0]"], "batches=[0]: give a whole number in 1..65536"),
        (["rounds=0"], "rounds=0: give a whole number from 1 up"),
    ],
)
def test_a_users_mistake_is_named(
    keys: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "a.ckpt", "task=classification")
    assert run(benchmark.main, [f"checkpoint={source}", "formats=[]", *keys]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_file_of_another_network_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    source = write_checkpoint(tmp_path / "a.ckpt", "task=classification")
    other = write_checkpoint(tmp_path / "b.ckpt", "task=classification", "input_size=96")
    file = export(other, tmp_path / "b.onnx", pictures=sample_pictures).path
    assert run(benchmark.main, [f"checkpoint={source}", "formats=[]", f"files=[{file}]"]) == 2
    assert f"{file} is for other classes or another input (96x96) than {source}" in capsys.readouterr().err


def test_memory_is_what_a_process_grows_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell peak memory")

    def allocate(_: object) -> None:
        pages = np.frombuffer(mmap.mmap(-1, 30_000_000), dtype=np.uint8)  # new ones, where a heap may have some left
        pages[:] = 1

    def steps(*_: object) -> list[tuple[str, Any]]:
        return [("allocate", allocate)]

    monkeypatch.setattr(contestants.Contestant, "steps", steps)
    fields = {"name": "a", "checkpoint": "a.ckpt", "input_size": [64, 64], "file": None, "peer": False, "candidates": 0}
    found = peak_memory._measure({"contestant": fields, "batch": 1, "threads": 1})
    assert found is not None and 25 < found < 60


def test_another_process_is_given_the_same_contestant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Contestant(name="a", checkpoint=tmp_path / "a b.ckpt", input_size=(64, 96), file=tmp_path / "a.onnx")
    seen: dict[str, Any] = {}

    def answer(command: list[str], **_: object) -> object:
        seen.update(json.loads(command[-1]))
        return type("Done", (), {"stdout": "a line of a library\n12.5\n"})

    monkeypatch.setattr(peak_memory.subprocess, "run", answer)
    assert peak_memory.peak_megabytes(one, batch=2, threads=1) == 12.5
    assert (seen["batch"], seen["contestant"]["file"]) == (2, str(tmp_path / "a.onnx"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_everything_is_measured_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    source = write_checkpoint(tmp_path / "a.ckpt", "task=lraspp")
    keys = ["formats=[onnx]", "memory=false", "rounds=2", "batches=[1,2]", "profile=true"]
    files = [f"output={tmp_path}/a.json", f"picture={tmp_path}/a.png"]
    assert run(benchmark.main, [f"checkpoint={source}", *keys, *files]) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert list(content["contestants"]) == ["torch", "onnx", "torchvision"] and content["left_out"] == {}
    assert [(one["threads"], one["batch"]) for one in content["latency"]] == [(1, 1), (1, 2)]
    for entry in content["latency"]:
        for row in entry["contestants"].values():
            assert list(row) == [FIT, NETWORK, POST, "whole"]
            assert all(0 < one["cpu_ms_median"] <= one["cpu_ms_p95"] for one in row.values())
    cost = count(load(source)[0], (64, 64))
    ours = content["networks"]["torch"]
    assert ours["network"] == "LRASPP" and ours["parameters"] == cost.parameters
    assert ours["madds"] == pytest.approx(cost.madds, rel=0.01)  # resizing is counted by one of them
    assert not content["networks"]["torchvision"]["same"]
    assert any(layer["name"].startswith("backbone.") for layer in content["profile"]["torch"])
    assert any(layer["kind"] == "Conv" for layer in content["profile"]["onnx"])
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert "speed beside torchvision" in capsys.readouterr().out
