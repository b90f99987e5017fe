"""The page on exported files: its program runs without mbvision and finds what mbvision finds."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mbvision
from mbvision.data.scenes_drawing import draw_scene
from mbvision.data.transforms.window import resize
from mbvision.deploy.export import export
from mbvision.deploy.samples import sample_pictures
from tests.tiny_checkpoints import write_checkpoint

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
PAGE = Path(__file__).parent.parent / "docs/export.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_program_without_mbvision_finds_the_same(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "a.ckpt", "task=ssdlite", "input_size=[128,160]")
    export(source, tmp_path / "a.onnx", pictures=sample_pictures, nms=True)
    page = "import sys\nsys.modules['mbvision'] = sys.modules['torch'] = None\n" + BLOCKS[-1]
    model = mbvision.load(tmp_path / "a.onnx")
    scene = draw_scene(3).image
    for picture in (scene, scene[:140, :170]):  # one shrinks to under half, one hardly
        Image.fromarray(picture).save(tmp_path / "a.png")
        everything = model.predict(tmp_path / "a.png")
        (tmp_path / "page.py").write_text(page.replace("0.3", "0"))  # the network has learnt nothing
        command = [sys.executable, "page.py", "a.onnx", "a.png"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        found = [line.split(" ", 2) for line in done.stdout.splitlines()]
        assert len(found) == len(everything.boxes) > 50
        expected = {(name, tuple(np.round(box))) for name, box in zip(everything.names, everything.boxes, strict=True)}
        near = [
            any(own == name and np.abs(np.array(box) - json.loads(text)).max() <= 1 for own, box in expected)
            for name, _, text in found
        ]
        assert np.mean(near) > 0.95  # the two resize alike, but for the rounding of single pixels


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((288, 384), (160, 160)),  # one side to under half, the other not
        ((480, 640), (160, 160)),
        ((90, 70), (128, 160)),
        ((200, 230), (128, 160)),
        ((1, 1), (32, 48)),
    ],
)
def test_the_program_resizes_as_mbvision_does(picture: tuple[int, int], size: tuple[int, int]) -> None:
    tree = ast.parse(BLOCKS[-1])
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "resize"]
    names: dict[str, Any] = {"np": np}
    exec(ast.unparse(function), names)
    image = np.random.default_rng(0).integers(0, 256, (*picture, 3), dtype=np.uint8)
    apart = np.abs(names["resize"](image, *size) - resize(image, size).astype(float))
    assert apart.max() <= 1 and apart.mean() < 0.2  # OpenCV's bilinear weights have 11 bits


def test_the_program_needs_what_the_page_says_alone() -> None:
    names = set()
    for node in ast.walk(ast.parse(BLOCKS[-1])):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    assert names == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    assert "needs onnxruntime, numpy and pillow." in PAGE.read_text()


def test_the_lines_for_litert_give_its_converter_a_network_that_can_be_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lines,) = [block for block in BLOCKS if "litert_torch" in block]
    written: list[str] = []

    def convert(module: torch.nn.Module, arguments: tuple[torch.Tensor]) -> SimpleNamespace:
        program = torch.export.export(module, arguments)
        assert [len(one) for one in program.module()(*arguments)] == [1, 1]
        return SimpleNamespace(export=written.append)

    stand_in = ModuleType("litert_torch")
    stand_in.convert = convert  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "litert_torch", stand_in)
    write_checkpoint(tmp_path / "best.ckpt", "task=ssdlite")
    monkeypatch.chdir(tmp_path)
    exec(lines.replace("320", "64"), {})
    assert written == ["model.tflite"]
