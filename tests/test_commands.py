"""The commands as users type them: what they write, what they print, how they end."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import mbvision
from mbvision.commands import doctor, evaluate, export, predict, prepare_data, run, train
from mbvision.commands.predict_outputs import RECORD
from mbvision.data.scenes import make_scenes
from tests.tiny_runs import SMALLEST

ROOT = Path(__file__).parent.parent
TWELVE = [f"AP{kind}" for kind in ("", "50", "75", "small", "medium", "large")]
TWELVE += [f"AR{kind}" for kind in ("1", "10", "100", "small", "medium", "large")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The keys of a small set in COCO's layout."""
    root = tmp_path_factory.mktemp("data") / "set"
    make_scenes(root, train_images=8, val_images=5)
    return ["data=coco", f"data.root={root}"]


@pytest.fixture(scope="module")
def trained(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a debug run."""
    folder = tmp_path_factory.mktemp("runs") / "debug"
    assert run(train.main, ["trainer=debug", *SMALLEST, *data, f"run_dir={folder}"]) == 0
    return folder


def test_the_run_folder_holds_what_is_promised(trained: Path) -> None:
    for name in (
        "best.ckpt",
        "last.ckpt",
        "config.yaml",
        "metrics.json",
        "metrics.csv",
        "curves.png",
        "predictions.json",
    ):
        assert (trained / name).stat().st_size > 0, name
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(TWELVE) <= set(metrics) and metrics["images"] == 4 and metrics["images_total"] == 5
    assert len(metrics["per_class"]) == 8
    samples = {path.name for path in (trained / "samples").iterdir()}
    assert "train_batch.png" in samples and "val_0.png" in samples


def test_a_folder_with_another_run_is_refused(
    trained: Path, data: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train.main, ["trainer=debug", *SMALLEST, *data, f"run_dir={trained}"]) == 2
    error = capsys.readouterr().err
    assert "holds another run" in error and "resume=" in error and "Traceback" not in error


def test_evaluate_scores_a_checkpoint(
    trained: Path, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"checkpoint={trained}/best.ckpt", *data, "loader.workers=0", "samples=2"]
    arguments += [f"output={tmp_path}/m.json", f"output_dir={tmp_path}/out", "device=cpu"]
    assert run(evaluate.main, arguments) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "m.json").read_text())
    for name in TWELVE:
        assert f"{name} {metrics[name]:.4f}" in printed
    assert metrics["images"] == metrics["images_total"] == 5 and "scored 5 of 5" in printed
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert {"predictions.json", "precision_recall.png", "samples/0.png", "samples/1.png"} <= found
    root = data[1].partition("=")[2]
    again = [f"predictions={tmp_path}/out/predictions.json", f"annotations={root}/annotations/instances_val2017.json"]
    assert run(evaluate.main, [*again, f"output={tmp_path}/again.json"]) == 0
    rescored = json.loads((tmp_path / "again.json").read_text())
    assert all(rescored[name] == pytest.approx(metrics[name], abs=1e-9) for name in TWELVE)


def test_evaluate_scores_voc_style(trained: Path, data: list[str], tmp_path: Path) -> None:
    arguments = [f"checkpoint={trained}/best.ckpt", *data, "loader.workers=0", "style=voc", "iou=0.4"]
    assert run(evaluate.main, [*arguments, f"output={tmp_path}/m.json", f"output_dir={tmp_path}/out"]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert {"mAP", "mAP07"} <= set(metrics) and metrics["iou"] == 0.4
    assert len(list((tmp_path / "out" / "comp4").glob("comp4_det_val2017_*.txt"))) == 8


def test_an_empty_result_list_gives_zeros(data: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    root = data[1].partition("=")[2]
    truth = f"annotations={root}/annotations/instances_val2017.json"
    assert run(evaluate.main, [f"predictions={tmp_path}/empty.json", truth, f"output={tmp_path}/m.json"]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["AP"] == 0 and metrics["AR100"] == 0


def test_predict_draws_and_writes_json(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a b.jpg", "c=d[1].png"):
        cv2.imwrite(str(tmp_path / "in" / name), np.full((40, 60, 3), 120, np.uint8))
    arguments = [
        f"checkpoint={trained}/best.ckpt",
        f"source={tmp_path}/in",
        f"output={tmp_path}/out",
        "score_threshold=0",
    ]
    assert run(predict.main, arguments) == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [RECORD, "a b.jpg", "a b.json", "c=d[1].jpg", "c=d[1].json"]
    found = json.loads((tmp_path / "out" / "a b.json").read_text())
    assert (found["width"], found["height"]) == (60, 40) and found["source"].endswith("a b.jpg")
    assert all(0 <= d["box"][0] <= d["box"][2] <= 60 for d in found["detections"])


def test_predict_names_what_it_cannot_read(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    checkpoint, output = f"checkpoint={trained}/best.ckpt", f"output={tmp_path}/out"
    assert run(predict.main, [checkpoint, f"source={tmp_path}/bad.jpg", output]) == 2
    assert "bad.jpg" in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "good.jpg"), np.zeros((9, 9, 3), np.uint8))
    assert run(predict.main, [checkpoint, f"source={tmp_path}/*.jpg", output]) == 3
    assert run(predict.main, [checkpoint, f"source={tmp_path}/nowhere", output]) == 2


def test_fine_tuning_to_other_classes_is_one_command(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "own"
    (root / "pictures").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 40} for i in range(4)]
    for image in images:
        cv2.imwrite(str(root / "pictures" / image["file_name"]), np.full((40, 40, 3), 90, np.uint8))
    boxes = [{"id": 9, "image_id": 0, "category_id": 5, "bbox": [5, 5, 20, 20], "iscrowd": 0, "area": 400}]
    text = json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 5, "name": "thing"}]})
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(text)
    own = [
        "data=coco",
        f"data.root={root}",
        f"data.images={root}/pictures",
        "data.train_split=train",
        "data.val_split=val",
    ]
    start = [f"pretrained={trained}/best.ckpt", "freeze=backbone", "trainer=debug", *SMALLEST, *own]
    caplog.set_level("INFO")
    assert run(train.main, [*start, f"run_dir={tmp_path}/a"]) == 2  # other classes, not asked to start anew
    assert run(train.main, [*start, f"run_dir={tmp_path}/b", "reset_head=true"]) == 0
    assert "starts anew" in caplog.text
    one, other = (torch.load(p / "last.ckpt", weights_only=True)["state_dict"] for p in (trained, tmp_path / "b"))
    trunk = torch.load(trained / "best.ckpt", weights_only=True)["state_dict"]
    same = [torch.equal(trunk[key], other[key]) for key in other if key.startswith("network.backbone.") and key in one]
    assert all(same) and len(same) > 100


def test_predict_never_writes_over_a_source(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.jpg"), np.zeros((9, 9, 3), np.uint8))
    before = (tmp_path / "a" / "x.jpg").read_bytes()
    checkpoint = f"checkpoint={trained}/best.ckpt"
    assert run(predict.main, [checkpoint, f"source={tmp_path}/a", f"output={tmp_path}/a"]) == 2
    assert "would overwrite" in capsys.readouterr().err and (tmp_path / "a" / "x.jpg").read_bytes() == before
    assert run(predict.main, [checkpoint, f"source={tmp_path}/*/x.jpg", f"output={tmp_path}/out"]) == 0
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def test_what_a_network_does_not_give_cannot_be_saved(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"checkpoint={trained}/best.ckpt", f"source={trained}/samples/val_0.png", f"output={tmp_path}/out"]
    for key in ("save=masks", "smoothing=0.5"):
        assert run(predict.main, [*arguments, key]) == 2
        assert f"{key} is for masks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_training_set_without_a_box_is_refused(
    data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "coco"
    shutil.copytree(data[1].partition("=")[2], root)
    truth = root / "annotations/instances_train2017.json"
    truth.write_text(json.dumps({**json.loads(truth.read_text()), "annotations": []}))
    assert run(train.main, ["trainer=debug", *SMALLEST, data[0], f"data.root={root}", f"run_dir={tmp_path}/run"]) == 2
    assert "data.train_split=train2017: no box to train on in" in capsys.readouterr().err


def test_safetensors_predict_as_their_checkpoint_does(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    assert run(export.main, [f"checkpoint={trained}/best.ckpt", f"output={file}"]) == 0
    image = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    one, other = (mbvision.load(path, device="cpu").predict(image) for path in (file, trained / "best.ckpt"))
    np.testing.assert_array_equal(one.scores, other.scores)
    assert one.names == other.names


def test_safetensors_start_another_run(trained: Path, data: list[str], tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    assert run(export.main, [f"checkpoint={trained}/best.ckpt", f"output={file}"]) == 0
    start = ["trainer=debug", *SMALLEST, *data, "freeze=backbone", f"run_dir={tmp_path}/run"]
    assert run(train.main, [*start, f"pretrained={file}"]) == 0
    one, other = (
        torch.load(p, weights_only=True)["state_dict"] for p in (trained / "best.ckpt", tmp_path / "run/last.ckpt")
    )
    assert all(torch.equal(one[key], other[key]) for key in one if key.startswith("network.backbone."))


def test_each_run_of_a_sweep_has_its_own_folder(data: list[str], tmp_path: Path) -> None:
    arguments = ["--multirun", "seed=0,1", "trainer=debug", *SMALLEST, *data, f"run_dir={tmp_path}/sweep"]
    assert run(train.main, arguments) == 0
    assert all((tmp_path / "sweep" / name / "best.ckpt").exists() for name in ("0", "1"))


def test_slots_by_category_id_go_through_training_prediction_and_scoring(data: list[str], tmp_path: Path) -> None:
    arguments = ["task=ssdlite_torchvision", "trainer=debug", *SMALLEST, *data, f"run_dir={tmp_path}/run"]
    assert run(train.main, arguments) == 0
    root = data[1].partition("=")[2]
    results, truth = f"predictions={tmp_path}/run/predictions.json", f"{root}/annotations/instances_val2017.json"
    assert run(evaluate.main, [results, f"annotations={truth}"]) == 0
    ids = {category["id"] for category in json.loads(Path(truth).read_text())["categories"]}
    assert {row["category_id"] for row in json.loads((tmp_path / "run/predictions.json").read_text())} <= ids
    checkpoint = [f"checkpoint={tmp_path}/run/best.ckpt", f"output_dir={tmp_path}/out", "loader.workers=0", "samples=0"]
    assert run(evaluate.main, [*checkpoint, *data]) == 0


def test_archives_are_named_with_size_and_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(prepare_data.main, ["data=coco"]) == 0
    printed = capsys.readouterr().out
    assert "train2017.zip (18 GB)" in printed and "cocodataset.org" in printed


def test_doctor_names_versions_and_two_opencvs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(doctor.main, []) == 0
    assert "torchvision" in capsys.readouterr().out
    both = {"opencv-python": "4.12", "opencv-python-headless": "5.0"}
    assert any("two packages own cv2" in line for line in doctor.warnings(both, None, 2**40))
    assert any("shared memory" in line for line in doctor.warnings({}, 2**24, 2**40))


def test_a_reader_that_has_seen_enough_is_no_error(data: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    truth = f"annotations={data[1].partition('=')[2]}/annotations/instances_val2017.json"
    words = [sys.executable, "tools/evaluate.py", f"predictions={tmp_path}/empty.json", truth]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0 and "Traceback" not in error and "BrokenPipe" not in error


def test_images_without_annotations_are_predicted_and_not_scored(
    trained: Path, data: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = Path(data[1].removeprefix("data.root="))
    listed = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    del listed["annotations"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(listed))
    (tmp_path / "test2017").symlink_to(root / "val2017")
    where = [f"checkpoint={trained}/best.ckpt", "data=coco", f"data.root={tmp_path}", "split=test-dev2017"]
    keys = ["loader.workers=0", "score_threshold=0", f"output_dir={tmp_path}/out", f"output={tmp_path}/m.json"]
    with caplog.at_level(logging.WARNING):
        assert run(evaluate.main, [*where, *keys]) == 0
    assert f"no annotated box to score by, so AP stays -1; the predictions of all 5 images are in {tmp_path}/out" in (
        caplog.text
    )
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {row["image_id"] for row in written} == {image["id"] for image in listed["images"]}
    assert {row["category_id"] for row in written} <= {category["id"] for category in listed["categories"]}
    assert json.loads((tmp_path / "m.json").read_text())["AP"] == -1
    splits = ["data.train_split=test-dev2017", "data.val_split=test-dev2017", f"run_dir={tmp_path}/run"]
    assert run(train.main, [*SMALLEST, *where[1:3], *splits]) == 2
