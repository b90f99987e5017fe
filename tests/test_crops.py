"""Crops of the scenes' objects: squares around boxes, with the boxes' classes."""

from pathlib import Path

import numpy as np
import pytest

from mbvision.data.crops import CropReader, scenes_crops, square_around
from mbvision.data.scenes import make_scenes, scenes
from mbvision.data.transforms.window import FILL


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, train_images=30, val_images=3, seed=4)
    return folder


@pytest.fixture
def whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbvision.data.scenes._check_stamp", lambda root, wanted: None)


@pytest.mark.usefixtures("whole_set")
def test_each_box_that_is_no_crowd_and_not_tiny_is_a_crop_with_its_label(root: Path) -> None:
    boxes = scenes(root=str(root), split="train2017").annotations
    reader = scenes_crops(root=str(root), split="train2017", min_side=24)
    expected = {}
    for picture, image_id in enumerate(boxes.image_ids):
        for row in range(boxes.offsets[picture], boxes.offsets[picture + 1]):
            if not boxes.crowd[row] and max(boxes.xywh[row, 2:]) >= 24:
                expected[f"{image_id}/{boxes.annotation_ids[row]}"] = int(boxes.labels[row])
    assert boxes.crowd.any() and (boxes.xywh[:, 2:].max(axis=1) < 24).any()
    found = {sample.target.image_id: sample.target.label for sample in map(reader.read, range(len(reader)))}
    assert found == expected
    truth = reader.truth["classification"]
    assert dict(zip(truth.image_ids, truth.labels.tolist(), strict=True)) == expected
    assert truth.class_names == boxes.class_names


@pytest.mark.usefixtures("whole_set")
def test_crops_are_the_same_in_any_order_and_square(root: Path) -> None:
    reader = scenes_crops(root=str(root), split="train2017")
    forward = [reader.read(index) for index in range(12)]
    backward = [reader.read(index) for index in reversed(range(12))][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.image.shape[0] == one.image.shape[1] and one.target.geometry.original == one.image.shape[:2]


@pytest.mark.usefixtures("whole_set")
def test_labels_follow_another_order_of_classes(root: Path) -> None:
    reader = scenes_crops(root=str(root), split="val2017")
    names = list(reader.class_names["classification"])
    turned = reader.with_class_order(names[::-1])
    assert isinstance(turned, CropReader)
    for index in range(len(reader)):
        label, other = reader.read(index).target.label, turned.read(index).target.label
        assert label is not None and other == len(names) - 1 - label


def test_the_square_by_hand() -> None:
    image = np.arange(10 * 12, dtype=np.uint8).reshape(10, 12, 1).repeat(3, axis=2)
    inside = square_around(image, np.array([4.0, 3.0, 4.0, 2.0]), 1.5)  # centre (6, 4), side 6
    np.testing.assert_array_equal(inside, image[1:7, 3:9])
    corner = square_around(image, np.array([0.0, 0.0, 2.0, 4.0]), 1.5)  # centre (1, 2), side 6: from (-2, -1)
    np.testing.assert_array_equal(corner[1:, 2:], image[:5, :4])
    assert (corner[0] == FILL).all() and (corner[:, :2] == FILL).all()
