"""Every pair and triple of tasks on one backbone, each task labelled in a set of its own: train, evaluate, predict."""

import json
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mbvision.build import build_reader
from mbvision.commands import evaluate, predict, run, train
from mbvision.commands.compose import compose_config
from mbvision.engine.pictures import draw_pairs, draw_predictions
from mbvision.metrics.verification import Verification
from mbvision.structures import AttributeScores, Embedding, Geometry, InputLabels, Target
from tests.face_sets import write_celeba
from tests.tiny_runs import SMALLEST, write_coco

TASKS = {  # task= by head, and the metric that only this head has
    "detection": ("ssdlite", "AP"),
    "segmentation": ("lraspp", "mIoU"),
    "classification": ("classification", "top1"),
    "attributes": ("attributes", "mean_AP"),
    "embedding": ("embedding", "verification_AUC"),
}
CASES = [case for count in (2, 3) for case in combinations(TASKS, count)]


def _image(path: Path, size: tuple[int, int], value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 255 - value, 90)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images a split of each kind, of different sizes, so that no two sets share a shape."""
    root = tmp_path_factory.mktemp("sets")
    write_coco(root / "boxes", train=3, val=3)
    for split in ("train", "val"):
        for number in range(3):
            _image(root / f"masks/images/{split}/{number}.png", (40, 30), 40 * number)
            mask = np.zeros((30, 40), dtype=np.uint8)
            mask[:, 20:] = 1
            (root / "masks/masks" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / f"masks/masks/{split}/{number}.png")
            _image(root / f"classes/{split}/{'cat' if number else 'dog'}/{number}.png", (50, 70), 60 * number)
            _image(root / f"people/{split}/{'Ada' if number else 'Ben'}{split}/{number}.png", (24, 36), 50 * number)
    (root / "masks/classes.json").write_text('["left", "right"]')
    write_celeba(root / "faces", values=["1 -1 1", "-1 1 -1"] * 3, splits="000111")
    return root


def _sets(root: Path, heads: tuple[str, ...]) -> str:
    named = {
        "detection": f"{{name: coco, root: {root}/boxes, tasks: [detection], train_split: train, val_split: val}}",
        "segmentation": f"{{name: masks_folder, root: {root}/masks}}",
        "classification": f"{{name: image_folder, root: {root}/classes}}",
        "attributes": f"{{name: celeba, root: {root}/faces, tasks: [attributes]}}",
        "embedding": f"{{name: identities, root: {root}/people}}",
    }
    return f"data.sets=[{', '.join(named[head] for head in heads)}]"


@pytest.mark.parametrize("heads", CASES, ids="+".join)
def test_tasks_of_their_own_sets_train_evaluate_and_predict(
    root: Path, heads: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbvision.engine.run_log.plot_curves", lambda history, path: None)
    monkeypatch.setattr("mbvision.commands.scoring.plot_confusion", lambda *arguments: None)
    monkeypatch.setattr("mbvision.commands.scoring.plot_precision_recall", lambda *arguments: None)
    tasks = ",".join(TASKS[head][0] for head in heads)
    whole = ["trainer=debug", "trainer.limit_val_batches=1.0", "trainer.enable_progress_bar=false"]
    backbone = [*SMALLEST, "fit=stretch"]  # a classifier's own default, crop, is refused beside boxes and masks
    assert run(train.main, [f"task=[{tasks}]", *backbone, *whole, _sets(root, heads), f"run_dir={tmp_path}/run"]) == 0
    checkpoint = f"checkpoint={tmp_path}/run/best.ckpt"
    places = [f"output={tmp_path}/m.json", f"output_dir={tmp_path}/out", "loader.workers=0", "samples=2"]
    assert run(evaluate.main, [checkpoint, _sets(root, heads), *places]) == 0
    trained, found = (json.loads(path.read_text()) for path in (tmp_path / "run/metrics.json", tmp_path / "m.json"))
    assert found["images"] == found["images_total"] == 3 * len(heads)
    for head in heads:
        assert found[TASKS[head][1]] == trained[TASKS[head][1]] and 0 <= found[TASKS[head][1]] <= 1
    image = root / "masks/images/val/0.png"
    assert run(predict.main, [checkpoint, f"source={image}", f"output={tmp_path}/found"]) == 0
    said = json.loads((tmp_path / "found/0.json").read_text())
    said_by = {
        "segmentation": "pixels",
        "classification": "classes",
        "attributes": "attributes",
        "embedding": "embedding",
    }
    assert {head for head, key in said_by.items() if key in said} == set(heads) - {"detection"}


def test_drawn_pairs_show_the_faces_of_their_own_set(root: Path) -> None:
    """Places of pairs count the images of the set with identities, which is not the first one here."""
    data = compose_config("evaluate", [_sets(root, ("segmentation", "embedding"))])["data"]
    reader = build_reader(data, "val_split", tasks=("segmentation", "embedding"))
    metric = Verification(annotations=reader.truth["embedding"])
    for index in range(3, 6):
        target = Target(image_id=reader.read(index).target.image_id, geometry=Geometry(original=(1, 1)), identity=0)
        vector = np.eye(3, dtype=np.float32)[index - 3]
        metric.update([Embedding(vector=torch.from_numpy(vector))], [target])
    metric.compute()
    drawn = draw_pairs(metric, reader, count=2)
    first, second, _, _ = metric.examples(2)[0]
    own = [cv2.resize(reader.read(3 + place).image, (75, 112)) for place in (first, second)]
    np.testing.assert_array_equal(drawn[:112, :150], np.concatenate(own, axis=1))


def test_notes_enlarge_an_image_after_its_mask_is_drawn(root: Path) -> None:
    data = compose_config("evaluate", [_sets(root, ("segmentation", "attributes"))])["data"]
    reader = build_reader(data, "val_split", tasks=("segmentation", "attributes"))
    sample = reader.read(0)
    labels = np.zeros((30, 40), dtype=np.uint8)
    labels[:, 20:] = 1
    said = {"attributes": AttributeScores(scores=torch.ones(3)), "segmentation": InputLabels(labels=labels)}
    orders = (said, dict(reversed(said.items())))
    first, second = (draw_predictions(sample.image, order, sample.target, reader) for order in orders)
    np.testing.assert_array_equal(first, second)
