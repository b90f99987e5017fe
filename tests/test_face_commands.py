"""Train, evaluate and predict with attributes and embeddings, end to end on a few drawn faces."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import mbvision
from mbvision.commands import evaluate, predict, run, train
from mbvision.data.portraits import make_portraits
from mbvision.data.portraits_drawing import ATTRIBUTES
from tests.face_sets import write_identities
from tests.tiny_runs import SMALLEST


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    make_portraits(root, train_people=3, val_people=3, pictures=3)
    return root


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network for both; three pictures of each of three people in validation."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    whole = ["trainer=debug", "trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0"]
    data = ["data=celeba", f"data.root={faces}"]
    assert run(train.main, ["task=[attributes,embedding]", *SMALLEST, *whole, *data, f"run_dir={folder}"]) == 0
    return folder


def test_the_run_folder_and_the_metrics(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"mean_AP", "attribute_accuracy", "verification_AUC", "verification_accuracy"} <= set(metrics)
    assert {"TAR_FAR_0.1", "TAR_FAR_0.01", "TAR_FAR_0.001"} <= set(metrics)
    assert metrics["images"] == metrics["images_total"] == 9 and metrics["pairs"] == 36
    assert set(metrics["per_class"]) == set(ATTRIBUTES)
    for name in ("roc.png", "curves.png", "samples/train_batch.png", "samples/val_0.png", "samples/val_pairs.png"):
        assert (trained / name).stat().st_size > 0


def test_evaluate_says_the_same_of_all_tasks_and_of_one(trained: Path, faces: Path, tmp_path: Path) -> None:
    common = [f"checkpoint={trained}/best.ckpt", "data=celeba", f"data.root={faces}", "loader.workers=0", "samples=2"]
    common += [f"output={tmp_path}/m.json", f"output_dir={tmp_path}/out"]
    assert run(evaluate.main, common) == 0
    metrics, expected = (json.loads(path.read_text()) for path in (tmp_path / "m.json", trained / "metrics.json"))
    assert {key: expected[key] for key in metrics} == metrics
    assert {path.name for path in (tmp_path / "out").rglob("*.png")} == {"roc.png", "0.png", "1.png", "pairs.png"}
    assert run(evaluate.main, [*common, "tasks=[attributes]"]) == 0
    alone = json.loads((tmp_path / "m.json").read_text())
    assert "verification_AUC" not in alone and alone["mean_AP"] == metrics["mean_AP"]


def test_strangers_in_folders_are_verified_without_labels_of_attributes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_identities(tmp_path / "lfw", {"Ada": 3, "Ben": 2})
    (tmp_path / "pairs.txt").write_text("1\t2\nAda\t1\t2\nBen\t1\t2\nAda\t1\tBen\t1\nAda\t3\tBen\t2\n")
    common = [f"checkpoint={trained}/best.ckpt", "data=lfw", f"data.root={tmp_path}", "loader.workers=0"]
    assert run(evaluate.main, [*common, f"output={tmp_path}/m.json", f"output_dir={tmp_path}/out"]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["pairs"] == 4 and metrics["images"] == 5 and "mean_AP" not in metrics
    (tmp_path / "pairs.txt").write_text("1\t1\nAda\t1\t9\nAda\t1\tBen\t1\n")
    assert run(evaluate.main, common) == 2
    assert "pairs.txt:2: there is no picture" in capsys.readouterr().err


def test_predict_writes_scores_and_vectors(trained: Path, faces: Path, tmp_path: Path) -> None:
    source = faces / "img_align_celeba" / "000002.jpg"
    arguments = [f"checkpoint={trained}/best.ckpt", f"source={source}", f"output={tmp_path}"]
    assert run(predict.main, arguments) == 0
    found = json.loads((tmp_path / "000002.json").read_text())
    assert list(found["attributes"]) == list(ATTRIBUTES) and found["detections"] == []
    assert all(0 <= score <= 1 for score in found["attributes"].values())
    assert len(found["embedding"]) == 128 and np.linalg.norm(found["embedding"]) == pytest.approx(1, abs=1e-5)
    assert cv2.imread(str(tmp_path / "000002.jpg")).shape == (96, 96, 3)
    result = mbvision.load(trained / "best.ckpt").predict(source)
    assert result.attribute_names == ATTRIBUTES and result.embedding is not None
    np.testing.assert_allclose(result.attribute_scores, list(found["attributes"].values()), rtol=1e-5)
    np.testing.assert_allclose(result.embedding, found["embedding"], rtol=1e-4, atol=1e-6)


def test_attributes_that_are_there_are_written_on_the_picture(trained: Path) -> None:
    from dataclasses import replace

    model = mbvision.load(trained / "best.ckpt")
    image = np.full((200, 300, 3), 128, dtype=np.uint8)
    result = model.predict(image)
    none = replace(result, attribute_scores=np.zeros(8, dtype=np.float32))
    some = replace(result, attribute_scores=np.eye(8, dtype=np.float32)[2])
    assert np.array_equal(model.draw(image, none), image)
    drawn = model.draw(image, some)
    assert (
        drawn.shape == image.shape and (drawn[150:] != image[150:]).any() and np.array_equal(drawn[:100], image[:100])
    )


def test_the_built_in_command_needs_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mbvision.data import portraits

    monkeypatch.setattr(
        portraits.make_portraits,
        "__kwdefaults__",
        {**portraits.make_portraits.__kwdefaults__, "train_people": 4, "val_people": 2, "pictures": 2},
    )
    arguments = ["task=embedding", "data=portraits", f"data.root={tmp_path}/faces", *SMALLEST, "trainer=debug"]
    assert run(train.main, [*arguments, f"run_dir={tmp_path}/run"]) == 0
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {"train_batch.png", "val_pairs.png"}
