"""The page on exported files: its program runs without mbvision and finds what mbvision finds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mbvision
from mbvision.commands.receipt import sample_pictures
from mbvision.data.scenes_drawing import draw_scene
from mbvision.deploy.export import export
from tests.tiny_checkpoints import write_checkpoint

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
PAGE = Path(__file__).parent.parent / "docs/export.md"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_program_without_mbvision_finds_the_same(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "a.ckpt", "task=ssdlite", "input_size=[128,160]")
    export(source, tmp_path / "a.onnx", pictures=sample_pictures, nms=True)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    page = "import sys\nsys.modules['mbvision'] = sys.modules['torch'] = None\n" + blocks[-1]
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
