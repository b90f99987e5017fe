"""Every command that the README and the pages beside it show is run, on small stand-ins for what they name."""

import json
import os
import re
import shlex
import shutil
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision

import mbvision
from mbvision import weights
from mbvision.commands import run
from mbvision.data.cityscapes import SCHEME
from mbvision.data.portraits import make_portraits
from mbvision.data.scenes import make_scenes
from mbvision.inference.video_writer import VideoWriter
from mbvision.metrics.mask_results import mask_writer
from tests.tiny_runs import SMALL

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "datasets/README.md",
    "docs/benchmark.md",
    "docs/check_data.md",
    "docs/classification.md",
    "docs/export.md",
    "docs/faces.md",
    "docs/predictions.md",
    "docs/several_machines.md",
]
TINY = ["trainer=debug", *SMALL]


def commands() -> list[str]:
    """The ``python tools/...`` commands of the pages, those in code blocks and those in tables."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text().replace("\\\n", " ")
        found += re.findall(r"python tools/[^`\n]+", text)
    return sorted(set(found))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the words in the commands stand for here."""
    root = tmp_path_factory.mktemp("readme")
    scenes = root / "scenes"
    make_scenes(scenes, train_images=6, val_images=4)
    for split in ("train", "val"):
        text = (scenes / f"annotations/instances_{split}2017.json").read_text()
        (scenes / f"annotations/instances_{split}.json").write_text(text)
        (scenes / split).symlink_to(scenes / f"{split}2017")
    (root / "photos").mkdir()
    cv2.imwrite(str(root / "photos" / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
    truth = json.loads((scenes / "annotations/instances_val2017.json").read_text())
    boxes = [a for a in truth["annotations"] if not a["iscrowd"]]
    keys = ("image_id", "category_id", "bbox")
    (root / "results.json").write_text(json.dumps([{k: a[k] for k in keys} | {"score": 0.5} for a in boxes]))
    yolo = root / "yolo"
    for split in ("train", "val"):
        (yolo / "images" / split).mkdir(parents=True)
        (yolo / "labels" / split).mkdir(parents=True)
        cv2.imwrite(str(yolo / "images" / split / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
        (yolo / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (yolo / "data.yaml").write_text("names: [thing]\ntrain: images/train\nval: images/val\n")
    with VideoWriter(root / "video.mp4", size=(48, 64), rate=Fraction(25)) as video:
        for number in range(3):
            video.write(np.full((48, 64, 3), 80 * number, np.uint8), number / 25)
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            (root / "pictures" / split / name).mkdir(parents=True)
            cv2.imwrite(str(root / "pictures" / split / name / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
    masks = root / "masks_folder"
    for split in ("train", "val"):
        for folder, kind in (("images", ".jpg"), ("masks", ".png")):
            (masks / folder / split).mkdir(parents=True)
            halves = np.repeat(np.arange(2, dtype=np.uint8), 20 * 40).reshape(40, 40)
            cv2.imwrite(str(masks / folder / split / f"a{kind}"), halves)
    (masks / "classes.json").write_text('["ground", "thing"]')
    labels = mask_writer(root / "masks", SCHEME)
    for file in (scenes / "cityscapes/gtFine/val").rglob("*_labelIds.png"):
        labels(file.name.removesuffix("_gtFine_labelIds.png"), np.zeros_like(cv2.imread(str(file), 0)))
    assert (
        run(
            import_module("mbvision.commands.train").main,
            [*TINY, "data=coco", f"data.root={scenes}", f"run_dir={root}/r"],
        )
        == 0
    )
    small = ["task=classification", "backbone=mobilenet_v3_small", *TINY]
    folders = ["data=image_folder", f"data.root={root}/pictures", f"run_dir={root}/c"]
    assert run(import_module("mbvision.commands.train").main, [*small, *folders]) == 0
    (root / "c" / "best.ckpt").rename(root / "classifier.ckpt")
    faces = root / "faces"
    make_portraits(faces, train_people=3, val_people=2, pictures=2)
    learn = ["task=[attributes,embedding]", "data=celeba", f"data.root={faces}", f"run_dir={root}/f"]
    assert run(import_module("mbvision.commands.train").main, [*TINY, *learn]) == 0
    onnx = [f"checkpoint={root}/r/best.ckpt", f"output={root}/exported.onnx"]
    assert run(import_module("mbvision.commands.export").main, onnx) == 0
    return {
        "checkpoint=model.onnx": f"checkpoint={root}/exported.onnx",
        "classifier.ckpt": f"{root}/classifier.ckpt",
        "runs/crops/best.ckpt": f"{root}/classifier.ckpt",
        "data.root=PICTURES": f"data.root={root}/pictures",
        "data.root=IMAGENET": f"data.root={root}/pictures",
        "data.root=FACES": f"data.root={faces}",
        "source=FOLDER": f"source={yolo}",
        "data.root=OUT": f"data.root={root}/out",
        "data.root=FOLDER": f"data.root={scenes}",
        "data.root=datasets/coco": f"data.root={scenes}",
        "archives=DOWNLOADS": f"archives={root}/photos",
        "archives=FOLDER": f"archives={root}/photos",
        "best.ckpt": f"{root}/r/best.ckpt",
        "faces.ckpt": f"{root}/f/best.ckpt",  # after that one, whose name its own path holds
        "predictions=masks": f"predictions={root}/masks",
        "data.root=datasets/cityscapes": f"data.root={scenes}/cityscapes",
        "source=video.mp4": f"source={root}/video.mp4",
        "root: BOXES": f"root: {scenes}",
        "root: MASKS": f"root: {masks}",
        "photos/*.jpg": f"{root}/photos/*.jpg",
        "output=found": f"output={root}/found",
        "predictions=results.json": f"predictions={root}/results.json",
        "annotations=instances.json": f"annotations={scenes}/annotations/instances_val2017.json",
        "pictures": f"{root}/pictures",
        "scenes": str(scenes),
        "faces": str(faces),
    }


def stand_in(arguments: list[str], place: dict[str, str]) -> list[str]:
    """What is read in the place of a built-in data set."""
    if {"task=classification", "experiment=demo_classification"} & set(arguments):
        return ["data=image_folder", f"data.root={place['pictures']}"]
    if {"experiment=demo_attributes", "experiment=demo_embedding"} & set(arguments):
        return ["data=celeba", f"data.root={place['faces']}"]
    return ["data=voc", f"data.root={place['scenes']}"]


def leave_process_group() -> None:
    """What Lightning leaves behind in a process that trained with DDP."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS"):
        os.environ.pop(name, None)


@pytest.mark.parametrize("command", commands())
def test_the_command_runs(
    command: str,
    place: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    for word, meaning in place.items():
        if word not in ("faces", "pictures", "scenes"):
            command = command.replace(word, meaning)
    words = shlex.split(command)
    name, arguments = Path(words[1]).stem, words[2:]
    if name == "train":
        trunk = torchvision.models.mobilenet_v3_large(width_mult=0.35).state_dict()
        monkeypatch.setattr(weights.load, "load_state_dict_from_url", lambda *_, **__: trunk)
        arguments += [a for a in TINY if a.partition("=")[0] not in {w.partition("=")[0] for w in arguments}]
        if not any(a.startswith(("data=", "data.sets=", "experiment=imagenet")) for a in arguments):
            arguments += stand_in(arguments, place)
        if "backbone.weights=torchvision:IMAGENET1K_V2" in arguments:
            arguments.append("backbone.width_rule=absolute")
    if name == "benchmark":  # a process and an export for each format take long
        arguments += ["formats=[]", "memory=false", "rounds=1", "batches=[1]"]
    if name == "export" and "quantize=int8" in arguments:
        arguments.append("max_drop=100")  # after one step there is nothing to lose
    if name == "train" and "trainer=ddp" in arguments:
        request.addfinalizer(leave_process_group)
    code = run(import_module(f"mbvision.commands.{name}").main, arguments)
    printed = capsys.readouterr()
    if "archives=" in command:  # the archives themselves are not here: they are asked for by name
        assert code == 2 and "train2017.zip" in printed.err
    else:
        assert code == 0, printed.err


@pytest.mark.parametrize("page", ["README.md", "docs/predictions.md"])
def test_the_python_lines_work(
    page: str, place: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (ROOT / page).read_text()
    lines = text.partition("```python\n")[2].partition("```")[0]
    cv2.imwrite(str(tmp_path / "picture.jpg"), np.zeros((40, 40, 3), np.uint8))
    shutil.copy(Path(place["source=video.mp4"].partition("=")[2]), tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    exec(lines.replace("best.ckpt", place["best.ckpt"]), {"mbvision": mbvision, "torch": torch})


def test_every_make_target_and_file_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        text = (ROOT / page).read_text()
        for target in re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", text, flags=re.M):
            assert f"\n{target[0] or target[1]}:" in makefile
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            if not link.startswith("http"):
                assert ((ROOT / page).parent / link).exists(), link
        for path in re.findall(r"`((?:mbvision|tests|docs|conf)/[\w/.]+)`", text):
            if "NAME" not in path:
                assert (ROOT / path).exists(), path
