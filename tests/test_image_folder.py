"""Folders of pictures, one for each class, and the list of classes that splits and networks share."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.build import build_reader
from mbvision.commands.compose import compose_config
from mbvision.data.image_folder import image_folder
from mbvision.errors import ConfigError, DataError, ImageError


def write(path: Path, colour: tuple[int, int, int] = (0, 0, 0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 6), colour).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        write(tmp_path / split / "dog" / "b.png", (0, 200, 0))
        write(tmp_path / split / "Cat" / "a.png", (200, 0, 0))
        write(tmp_path / split / "Cat" / "more" / "ä b.png", (100, 0, 0))
        (tmp_path / split / "Cat" / "notes.txt").write_text("no picture")
        (tmp_path / split / ".cache").mkdir()
    return tmp_path


def test_classes_are_the_folders_sorted_as_torchvision_sorts_them(root: Path) -> None:
    from torchvision.datasets import ImageFolder

    reader = image_folder(root=root, split="train")
    for cache in root.glob("*/.cache"):
        cache.rmdir()  # torchvision takes hidden folders for classes
    theirs = ImageFolder(str(root / "train"))
    assert list(reader.class_names["classification"]) == theirs.classes == ["Cat", "dog"]
    ours = [(str(reader.path(index)), reader.read(index).target.label) for index in range(len(reader))]
    assert sorted(ours) == sorted(theirs.samples)


def test_a_sample_has_its_picture_its_label_and_its_path_as_id(root: Path) -> None:
    reader = image_folder(root=root, split="train")
    sample = reader.read(1)
    assert sample.target.image_id == "Cat/more/ä b.png" and sample.target.label == 0
    assert sample.image.shape == (6, 9, 3) and (sample.image == (100, 0, 0)).all()
    assert sample.target.geometry.original == (6, 9) and sample.target.boxes is None
    truth = reader.truth["classification"]
    assert truth.image_ids == tuple(reader.read(i).target.image_id for i in range(3)) and len(truth) == 3
    np.testing.assert_array_equal(truth.labels, [0, 0, 1])


def test_splits_with_other_classes_are_an_error_that_names_them(root: Path) -> None:
    write(root / "val" / "horse" / "c.png")
    (root / "val" / "dog" / "b.png").rename(root / "val" / "horse" / "b.png")
    (root / "val" / "dog").rmdir()
    data = compose_config("train", ["task=classification", "data=image_folder", f"data.root={root}"])["data"]
    train = build_reader(data, "train_split", tasks=["classification"])
    with pytest.raises(DataError, match=r"val: its classes are not .*; only here: horse; missing here: dog$"):
        build_reader(data, "val_split", tasks=["classification"], class_names=train.class_names)


def test_labels_follow_the_order_of_a_networks_classes(root: Path) -> None:
    reader = image_folder(root=root, split="val").with_class_order(["dog", "Cat"])
    assert [reader.read(index).target.label for index in range(3)] == [1, 1, 0]
    assert reader.truth["classification"].labels.tolist() == [1, 1, 0]


def test_missing_folders_are_named_with_what_is_there(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"test: there is no such split; folders there: train, val; put the pictures"):
        image_folder(root=root, split="test")
    with pytest.raises(DataError, match=r"there is no such folder; check data\.root="):
        image_folder(root=root / "none", split="train")
    with pytest.raises(DataError, match="no folder in it"):
        image_folder(root=root / "train" / "Cat", split="more")
    (root / "train" / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(image_folder(root=root, split="train").class_names["classification"]) == 3
    assert "classes without a picture: 1 (empty)" in caplog.text
    (root / "val" / "Cat" / "more" / "ä b.png").unlink()
    with pytest.raises(DataError, match="no pictures in the folders of its 1 classes"):
        image_folder(root=root / "val", split="Cat")


def test_a_damaged_picture_is_named_when_it_is_read(root: Path) -> None:
    (root / "train" / "dog" / "b.png").write_bytes(b"\x89PNG cut off")
    reader = image_folder(root=root, split="train")
    with pytest.raises(ImageError, match=r"dog/b\.png: not an image"):
        reader.read(2)


def test_a_set_cannot_give_classes_and_boxes_at_once(root: Path) -> None:
    data = compose_config("train", [])["data"]
    both = {"detection": data["readers"]["detection"], "classification": data["readers"]["classification"]}
    with pytest.raises(ConfigError, match=r"cannot be read for detection and classification at once; .*data\.sets"):
        build_reader({**data, "readers": both}, "val_split", tasks=["detection", "classification"])


def test_images_of_all_kinds_names_and_links_are_read_and_others_counted(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cat = root / "train" / "Cat"
    (cat / "10.jfif").write_bytes((cat / "a.png").read_bytes())  # what a file is, its content says
    write(root / "elsewhere" / "x.png", (9, 9, 9))
    (cat / "9.png").symlink_to(root / "elsewhere" / "x.png")
    (cat / "._a.png").write_bytes(b"\0\5\26\7")
    (cat / "b.heic").write_bytes(b"")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    write(root / "train" / "loose.png")
    with caplog.at_level(logging.WARNING):
        reader = image_folder(root=root, split="train")
    names = [reader.read(index).target.image_id for index in range(len(reader))]
    assert names == ["Cat/9.png", "Cat/10.jfif", "Cat/a.png", "Cat/more/ä b.png", "dog/b.png"]
    assert (reader.read(0).image == 9).all()
    passed_over, loose = caplog.messages
    assert "1 files of other kinds (Cat/notes.txt); 3 hidden or system files (" in passed_over
    assert "1 images of a kind that is not read, HEIC: convert it with" in passed_over and "(Cat/b.heic)" in passed_over
    assert loose.endswith("left out: 1 (loose.png); put each into the folder of its class")
