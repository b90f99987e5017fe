"""Segmentation as users type it: training, scores of checkpoints and of others' masks, pictures and videos."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import mbvision
from mbvision.commands import evaluate, predict, run, train
from mbvision.commands.predict_outputs import RECORD
from mbvision.data.scenes import make_scenes
from mbvision.inference.video_writer import VideoWriter
from tests.tiny_runs import SMALLEST


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(root, train_images=9, val_images=5)
    return root


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on the Cityscapes tree, whose last batch holds one picture."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    data = ["data=cityscapes", f"data.root={scenes}/cityscapes"]
    limits = ["trainer=debug", "trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0", "input_size=[96,64]"]
    assert run(train.main, ["task=deeplabv3", *SMALLEST, *limits, *data, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Six frames of a moving edge, with odd sides."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, size=(47, 61), rate=Fraction(10)) as video:
        for number in range(6):
            frame = np.full((47, 61, 3), 40, np.uint8)
            frame[:, : 10 * number] = (200, 60, 20)
            video.write(frame, number / 10)
    return path


def test_the_run_folder_and_the_metrics(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"mIoU", "pixel_accuracy", "mIoU_present", "mIoU_all", "mIoU_categories"} <= set(metrics)
    assert metrics["images"] == metrics["images_total"] == 5 and len(metrics["per_class"]) == 19
    for name in ("best.ckpt", "last.ckpt", "curves.png", "samples/train_batch.png", "samples/val_0.png"):
        assert (trained / name).stat().st_size > 0


def test_masks_that_evaluate_writes_score_the_same_as_the_checkpoint(
    trained: Path, scenes: Path, tmp_path: Path
) -> None:
    data = ["data=cityscapes", f"data.root={scenes}/cityscapes"]
    checkpoint = [f"checkpoint={trained}/best.ckpt", "loader.workers=0", "samples=1", f"output_dir={tmp_path}/out"]
    assert run(evaluate.main, [*checkpoint, *data, f"output={tmp_path}/a.json"]) == 0
    masks = tmp_path / "out" / "masks"
    assert len(list(masks.iterdir())) == 5 and (tmp_path / "out" / "confusion.png").stat().st_size > 0
    assert run(evaluate.main, [f"predictions={masks}", *data, f"output={tmp_path}/b.json"]) == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    trained_metrics = json.loads((trained / "metrics.json").read_text())
    for key in ("mIoU", "pixel_accuracy", "mIoU_all", "mIoU_categories"):
        assert first[key] == second[key] == trained_metrics[key]


def test_several_scales_and_windows_are_scored_at_the_pictures_own_size(
    trained: Path, scenes: Path, tmp_path: Path
) -> None:
    common = [f"checkpoint={trained}/best.ckpt", "data=cityscapes", f"data.root={scenes}/cityscapes", "samples=0"]
    common += ["loader.workers=0", f"output_dir={tmp_path}/out", f"output={tmp_path}/m.json"]
    for more in (["scales=[0.5,1.0]", "flip=true"], ["window=true"], ["input_size=[64,128]"]):
        assert run(evaluate.main, [*common, *more]) == 0
        metrics = json.loads((tmp_path / "m.json").read_text())
        assert metrics["images"] == 5 and 0 <= metrics["mIoU"] <= 1
    for mask in (tmp_path / "out" / "masks").iterdir():
        picture = scenes / "cityscapes/leftImg8bit/val/scenes" / mask.name.replace("_pred_labelIds.png", ".jpg")
        with Image.open(mask) as found, Image.open(picture) as original:
            assert found.size == original.size


def test_a_data_set_without_the_labels_is_refused(
    trained: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["task=ssdlite", "data=cityscapes", f"data.root={scenes}/cityscapes", f"run_dir={tmp_path}/r"]
    assert run(train.main, arguments) == 2
    assert "has labels for segmentation, not for detection" in capsys.readouterr().err
    assert run(evaluate.main, [f"checkpoint={trained}/best.ckpt", "data=voc", f"data.root={scenes}"]) == 2
    assert "mask classes are" in capsys.readouterr().err


def test_predict_writes_what_is_asked_for(trained: Path, clip: Path, tmp_path: Path) -> None:
    common = [f"checkpoint={trained}/best.ckpt", f"source={clip}", f"output={tmp_path}/out", "smoothing=0.5"]
    assert run(predict.main, [*common, "save=[video,masks,json]"]) == 0
    found = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert found.get(cv2.CAP_PROP_FRAME_COUNT) == 6 and found.get(cv2.CAP_PROP_FPS) == 10
    found.release()
    lines = [json.loads(line) for line in (tmp_path / "out" / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(6)) and lines[5]["time_s"] == pytest.approx(0.5)
    masks = sorted((tmp_path / "out" / "clip_masks").iterdir())
    assert len(masks) == 6
    for line, path in zip(lines, masks, strict=True):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (line["height"], line["width"]) and sum(line["pixels"].values()) == mask.size
    assert [path.name for path in (tmp_path / "out").rglob(".*")] == [RECORD]


def test_a_video_is_a_generator_in_python(trained: Path, clip: Path) -> None:
    model = mbvision.load(trained / "best.ckpt")
    frames = list(model.predict_video(clip))
    assert [frame.index for frame, _ in frames] == list(range(6))
    alone = model.predict(frames[3].frame.image)
    assert alone.mask is not None and np.array_equal(frames[3].result.mask, alone.mask)


def test_a_cut_off_video_keeps_what_could_be_read(
    trained: Path, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = test_data / "extra" / "videos" / "corrupted.mp4"
    arguments = [f"checkpoint={trained}/best.ckpt", f"source={source}", f"output={tmp_path}/out"]
    assert run(predict.main, arguments) == 3
    assert "49 of 50 frames; 1 damaged part is left out" in capsys.readouterr().out
    found = cv2.VideoCapture(str(tmp_path / "out" / "corrupted.mp4"))
    assert found.get(cv2.CAP_PROP_FRAME_COUNT) == 49
    found.release()


def test_what_is_no_video_is_one_line_and_exit_code_2(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    arguments = [f"checkpoint={trained}/best.ckpt", f"output={tmp_path}/out"]
    assert run(predict.main, [*arguments, f"source={tmp_path}/text.mp4"]) == 2
    assert "text.mp4: not a video" in capsys.readouterr().err
    assert run(predict.main, [*arguments, "source=camera:x"]) == 2
    assert "camera:0" in capsys.readouterr().err
    assert run(predict.main, [*arguments, f"source={tmp_path}/text.mp4", "save=sound"]) == 2
    assert "save=sound: choose video, masks, json" in capsys.readouterr().err


def test_a_folder_of_pictures_becomes_one_video_when_asked(trained: Path, scenes: Path, tmp_path: Path) -> None:
    arguments = [f"checkpoint={trained}/best.ckpt", f"source={scenes}/val2017", f"output={tmp_path}/out", "save=video"]
    assert run(predict.main, arguments) == 0
    found = cv2.VideoCapture(str(tmp_path / "out" / "val2017.mp4"))
    assert found.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    found.release()
