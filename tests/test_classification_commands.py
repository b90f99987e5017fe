"""Classification as users type it: training, scores, pictures, videos, and its backbone in a detector."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mbvision
from mbvision import checkpoint
from mbvision.commands import evaluate, predict, run, train
from mbvision.commands.compose import compose_config
from mbvision.data.scenes import make_scenes
from mbvision.inference.video_writer import VideoWriter
from tests.tiny_runs import SMALLEST, differing, fit, keep_every_checkpoint

TINY = [*SMALLEST, "trainer=debug", "trainer.limit_val_batches=1.0"]
COLOURS = {"blue": (0, 0, 220), "green": (0, 200, 0), "red": (220, 0, 0)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of plain pictures, some of them long."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    for split, count in (("train", 4), ("val", 3)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (60 + 30 * number, 70), colour).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    data = ["task=classification", "data=image_folder", f"data.root={folders}", "crop_fraction=0.9"]
    mixed = ["transform.mix.mixup=0.2", "transform.mix.cutmix=1.0", "transform.train.policy=randaugment"]
    assert run(train.main, [*TINY, *data, *mixed, f"run_dir={folder}"]) == 0
    return folder


def test_the_run_folder_and_the_metrics(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert 0 <= metrics["top1"] <= metrics["top5"] == 1.0
    assert metrics["images"] == metrics["images_total"] == 9 and set(metrics["per_class"]) == set(COLOURS)
    for name in ("best.ckpt", "last.ckpt", "curves.png", "samples/train_batch.png", "samples/val_classes.png"):
        assert (trained / name).stat().st_size > 0


def test_evaluate_gives_the_numbers_of_training_and_a_confusion_picture(
    trained: Path, folders: Path, tmp_path: Path
) -> None:
    arguments = ["data=image_folder", f"data.root={folders}", "loader.workers=0", "loader.batch_size=4"]
    where = [f"checkpoint={trained}/best.ckpt", f"output={tmp_path}/m.json", f"output_dir={tmp_path}/out"]
    assert run(evaluate.main, [*where, *arguments]) == 0
    found, expected = (json.loads(path.read_text()) for path in (tmp_path / "m.json", trained / "metrics.json"))
    assert found == {key: value for key, value in expected.items() if key not in ("step", "epoch")}
    for name in ("confusion.png", "samples/classes.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 100


def test_a_data_set_with_other_classes_is_named(
    trained: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "violet").symlink_to(folders / "val" / "blue")
    arguments = [f"checkpoint={trained}/best.ckpt", "data=image_folder", f"data.root={tmp_path}"]
    assert run(evaluate.main, arguments) == 2
    assert "only here: violet; missing here: blue, green, red" in capsys.readouterr().err
    assert run(evaluate.main, [f"checkpoint={trained}/best.ckpt", "data=cityscapes", f"data.root={tmp_path}"]) == 2
    assert "the set has labels for segmentation, the network is for classification" in capsys.readouterr().err


def test_predict_writes_the_best_classes_and_draws_them(trained: Path, folders: Path, tmp_path: Path) -> None:
    source = folders / "val" / "red" / "2.png"
    assert run(predict.main, [f"checkpoint={trained}/best.ckpt", f"source={source}", f"output={tmp_path}/out"]) == 0
    content = json.loads((tmp_path / "out" / "2.json").read_text())
    assert content["detections"] == [] and (content["width"], content["height"]) == (120, 70)
    scores = [one["score"] for one in content["classes"]]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1.0)
    assert {(one["label"], one["name"]) for one in content["classes"]} == set(enumerate(sorted(COLOURS)))
    with Image.open(source) as plain, Image.open(tmp_path / "out" / "2.jpg") as drawn:
        difference = np.abs(np.asarray(plain).astype(int) - np.asarray(drawn)).max(axis=2)
    assert (difference[:12, :10] > 100).any() and (difference[60:] < 60).all()  # text above, the picture below


def test_the_predictor_crops_as_validation_does(trained: Path, folders: Path) -> None:
    """The same scores as the network gives for what torchvision's resize and centre crop make of the picture."""
    from torchvision.transforms import functional

    path = folders / "val" / "green" / "2.png"
    result = mbvision.load(trained / "best.ckpt").predict(path)
    network, _ = checkpoint.load(trained / "best.ckpt")
    with Image.open(path) as picture:
        cropped = functional.center_crop(functional.resize(picture, [71]), [64])  # 64 / 0.9 = 71.1
    with torch.no_grad():
        outputs = network.eval()(functional.to_tensor(cropped)[None])["classification"]
    expected = outputs.softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(result.class_scores, np.sort(expected)[::-1], atol=1e-5)
    np.testing.assert_allclose(expected[result.class_labels], result.class_scores, atol=1e-5)
    assert result.classes == tuple(sorted(COLOURS)[label] for label in result.class_labels)
    assert len(result.boxes) == 0 and result.mask is None


def test_videos_have_the_classes_of_each_frame(trained: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", size=(48, 64), rate=Fraction(10)) as video:
        for number in range(3):
            video.write(np.full((48, 64, 3), 80 * number, np.uint8), number / 10)
    arguments = [f"checkpoint={trained}/best.ckpt", f"source={tmp_path}/clip.mp4", f"output={tmp_path}/out"]
    assert run(predict.main, [*arguments, "save=[video,json]"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "clip.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and all(len(line["classes"]) == 3 for line in lines)
    assert (tmp_path / "out" / "clip.mp4").stat().st_size > 0


def test_a_new_set_of_classes_starts_from_the_whole_network(
    trained: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for name in ("blue", "red"):
            (tmp_path / split / name).symlink_to(folders / split / name)
    data = ["task=classification", "data=image_folder", f"data.root={tmp_path}", f"pretrained={trained}/best.ckpt"]
    assert run(train.main, [*TINY, *data, f"run_dir={tmp_path}/refused"]) == 2
    assert "reset_head=true starts the heads anew" in capsys.readouterr().err
    still = ["reset_head=true", "optimizer.lr=1e-30", "ema_decay=null", f"run_dir={tmp_path}/run"]
    assert run(train.main, [*TINY, *data, *still]) == 0
    old, new = (checkpoint.load(folder / "last.ckpt")[0].state_dict() for folder in (trained, tmp_path / "run"))
    assert torch.equal(old["heads.classification.hidden.weight"], new["heads.classification.hidden.weight"])
    assert new["heads.classification.output.weight"].shape[0] == 2


def test_a_detector_starts_from_the_classifiers_backbone(trained: Path, tmp_path: Path) -> None:
    make_scenes(tmp_path / "scenes", train_images=4, val_images=2)
    data = ["data=voc", f"data.root={tmp_path}/scenes", f"backbone.weights={trained}/best.ckpt"]
    still = ["optimizer.lr=1e-30", "ema_decay=null", f"run_dir={tmp_path}/run"]
    assert run(train.main, ["task=ssdlite", *TINY, *data, *still]) == 0
    old, new = (checkpoint.load(folder / "last.ckpt")[0].state_dict() for folder in (trained, tmp_path / "run"))
    trunk = [key for key in new if key.startswith("backbone.") and "running" not in key and "num_batches" not in key]
    assert len(trunk) > 50
    assert not [key for key in trunk if not torch.allclose(old[key], new[key], rtol=0, atol=1e-20)]


def test_classes_and_boxes_of_two_sets_train_one_network(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_scenes(tmp_path / "scenes", train_images=4, val_images=2)
    sets = f"[{{name: image_folder, root: {folders}}}, {{name: voc, root: {tmp_path}/scenes, tasks: [detection]}}]"
    both = ["task=[ssdlite,classification]", f"data.sets={sets}", *TINY, f"run_dir={tmp_path}/run"]
    assert run(train.main, both) == 2
    assert "fit=crop cuts off what detection must see" in capsys.readouterr().err
    assert run(train.main, [*both, "fit=stretch", "loader.batch_size=8", "trainer.limit_train_batches=1.0"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"AP50", "top1"} <= set(metrics) and metrics["images"] == metrics["images_total"] == 11


@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")
def test_a_mixed_run_resumed_in_mid_epoch_ends_as_the_one_never_stopped(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["task=classification", "data=image_folder", f"data.root={folders}", *TINY]
    overrides += ["trainer=cpu", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "ema_decay=0.9"]
    overrides += ["transform.mix.mixup=0.2", "transform.mix.cutmix=1.0", "checkpoint_every_n_steps=1"]
    with monkeypatch.context() as patch:
        keep_every_checkpoint(patch, tmp_path)
        fit(compose_config("train", overrides), tmp_path / "whole")
    settings = compose_config("train", [*overrides, "loader.workers=1"])
    fit(settings, tmp_path / "resumed", resume=tmp_path / "step_2.ckpt")  # of three steps in the first epoch
    whole, resumed = (checkpoint.read(tmp_path / name / "last.ckpt") for name in ("whole", "resumed"))
    assert whole["global_step"] == resumed["global_step"] == 6
    assert not differing(resumed["state_dict"], whole["state_dict"])


def test_the_transform_and_the_input_are_picked_for_the_task() -> None:
    config = compose_config("train", ["task=classification", "backbone=mobilenet_v3_large_minimalistic"])
    assert config["transform"]["train"]["_target_"].endswith("classification_train")
    assert config["input_size"] == 224 and config["fit"] == "crop"
    assert config["heads"]["classification"]["hidden"] == 1280
    assert config["heads"]["classification"]["activation"] == "relu"
    assert compose_config("train", ["task=classification", "input_size=128"])["input_size"] == 128
