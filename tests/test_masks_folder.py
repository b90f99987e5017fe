import json
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.data.masks_folder import masks_folder
from mbvision.errors import AnnotationError, DataError

CAMVID = ["sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car", "pedestrian"]


def _pair(pictures: Path, masks: Path, stem: str, values: tuple[int, ...] = (0, 1)) -> None:
    for folder in (pictures, masks):
        folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(pictures / f"{stem}.jpg")
    Image.fromarray(np.resize(np.array(values, dtype=np.uint8), (4, 6))).save(masks / f"{stem}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for stem in "abc":
        _pair(tmp_path / "images/train", tmp_path / "masks/train", stem)
    (tmp_path / "classes.json").write_text('["background", "cat"]')
    return tmp_path


def test_camvid_is_read_with_its_void(test_data: Path) -> None:
    root = test_data / "camvid"
    for split, count in (("train", 367), ("val", 101)):
        reader = masks_folder(root=root, split=split)
        names = (root / "splits" / f"{split}.txt").read_text().split()
        assert list(reader.annotations.image_ids) == names and len(reader) == count
        for index in range(0, count, 60):
            pixels = np.asarray(Image.open(root / "labels" / split / f"{names[index]}.png"))
            np.testing.assert_array_equal(reader.mask(index), np.where(pixels == 11, 255, pixels))
    scheme = reader.annotations.scheme
    assert scheme.class_names == (*CAMVID, "bicyclist") and scheme.ignored == (11, 255)
    assert scheme.palette[3] == (128, 64, 128) and scheme.palette[10] == (0, 128, 192)
    given = masks_folder(root=root, split="val", classes=[*CAMVID, "bicyclist"], void=11)
    np.testing.assert_array_equal(given.mask(5), reader.mask(5))
    assert given.read(0).image.shape == (360, 480, 3)


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("images/train", "masks/train"),
        ("images/train", "labels/train"),
        ("images/train", "annotations/train"),
        ("train/images", "train/masks"),
        ("train", "trainannot"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path: Path, pictures: str, masks: str) -> None:
    _pair(tmp_path / pictures, tmp_path / masks, "a", (0, 1, 255))
    reader = masks_folder(root=tmp_path, split="train", classes=["background", "cat"])
    assert reader.path(0) == tmp_path / pictures / "a.jpg"
    assert reader.mask(0)[0, :3].tolist() == [0, 1, 255]


def test_a_list_divides_one_folder_into_splits(tmp_path: Path) -> None:
    for stem in "abc":
        _pair(tmp_path / "images", tmp_path / "masks", stem)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text("c\na.jpg\n")
    (tmp_path / "classes.txt").write_text("background\ncat\n\n")
    reader = masks_folder(root=tmp_path, split="val")
    assert reader.annotations.image_ids == ("c", "a") and reader.class_names["segmentation"] == ("background", "cat")
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(DataError, match=r"pictures without a mask .*lists them: 1 \(a\)"):
        masks_folder(root=tmp_path, split="val")
    (tmp_path / "splits" / "val.txt").write_text("nobody\n")
    with pytest.raises(DataError, match=r"lists them: 1 \(nobody\)"):
        masks_folder(root=tmp_path, split="val")


def test_named_folders_may_hold_the_splits_or_be_them(root: Path, tmp_path: Path) -> None:
    _pair(tmp_path / "elsewhere/photos/train", tmp_path / "elsewhere/drawn", "z")
    reader = masks_folder(
        root=root, split="train", images=tmp_path / "elsewhere/photos", masks=tmp_path / "elsewhere/drawn"
    )
    assert reader.annotations.image_ids == ("z",)
    with pytest.raises(DataError, match=r"none: there is no such folder; check data\.images="):
        masks_folder(root=root, split="train", images=root / "none")


def test_pictures_and_masks_without_the_other_are_told_with_their_count(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "images/train/a.jpg").unlink()
    (root / "masks/train/b.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert masks_folder(root=root, split="train").annotations.image_ids == ("c",)
    assert "pictures without a mask" in caplog.text and "left out: 1 (b)" in caplog.text
    assert "masks without a picture" in caplog.text and "left out: 1 (a)" in caplog.text
    (root / "masks/train/c.png").unlink()
    with pytest.raises(DataError, match="none of its 2 pictures has a mask"):
        masks_folder(root=root, split="train")


def test_two_files_of_one_name_are_named(root: Path) -> None:
    Image.new("RGB", (6, 4)).save(root / "images/train/a.png")
    with pytest.raises(DataError, match=r"a\.jpg, a\.png have the same name"):
        masks_folder(root=root, split="train")


def test_without_classes_the_error_says_how_to_write_them(root: Path) -> None:
    (root / "classes.json").unlink()
    with pytest.raises(DataError, match=r'classes\.json: there is no such list of classes; .*\["background", "cat"\]'):
        masks_folder(root=root, split="train")
    with pytest.raises(DataError, match=r"no pictures with masks for the split 'val'; looked for .*splits/val\.txt"):
        masks_folder(root=root, split="val", classes=["background", "cat"])
    with pytest.raises(DataError, match="there is no such folder"):
        masks_folder(root=root / "none", split="val")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not valid JSON"),
        ('{"names": []}', "no list of class names"),
        ("[1, 2]", "no list of class names"),
        ("3", "no list of class names"),
        ('{"classes": ["a"], "void_index": "x"}', "void_index is x"),
        ('{"classes": ["a", "b"], "palette": [[0, 0, 0]]}', "palette must hold"),
        ('{"classes": ["a"], "palette": [[0, 0, 256]]}', "palette must hold"),
        ('["a", "a"]', "'a' is there twice"),
    ],
)
def test_a_wrong_list_of_classes_is_named(root: Path, content: str, reason: str) -> None:
    (root / "classes.json").write_text(content)
    with pytest.raises(DataError, match=rf"classes\.json: .*{reason}"):
        masks_folder(root=root, split="train")


def test_a_void_of_zero_numbers_the_classes_from_one(root: Path) -> None:
    (root / "classes.json").write_text(json.dumps({"classes": ["wall", "sky"], "void_index": 0}))
    reader = masks_folder(root=root, split="train")
    assert reader.annotations.scheme.stored == (1, 2) and set(reader.mask(0).ravel().tolist()) == {255, 0}


def test_a_mask_with_more_values_than_classes_is_refused_when_read(root: Path) -> None:
    _pair(root / "images/train", root / "masks/train", "a", (0, 2))
    with pytest.raises(AnnotationError, match=r"a\.png: mask values that belong to no class: 2 \(12 pixels\)"):
        masks_folder(root=root, split="train").read(0)


def test_sub_folders_are_read_and_the_files_of_other_computers_counted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _pair(root / "images/train/city 10", root / "masks/train/city 10", "a", (1,))
    _pair(root / "images/train/city 9", root / "masks/train/city 9", unicodedata.normalize("NFC", "é"))
    (root / "images/train/city 9/é.jpg").rename(root / "images/train/city 9" / unicodedata.normalize("NFD", "é.jpg"))
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (root / kind / f"train/._a.{suffix}").write_bytes(b"\0\5\26\7")
        (root / kind / "train/.DS_Store").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        reader = masks_folder(root=root, split="train")
    assert reader.annotations.image_ids == ("a", "b", "c", "city 9/é", "city 10/a")
    assert (reader.mask(4) == 1).all() and reader.read(3).image.shape == (4, 6, 3)
    assert [m.partition(" (")[0] for m in caplog.messages] == [
        f"{root}/{kind}/train: passed over: 2 hidden or system files" for kind in ("images", "masks")
    ]


def test_links_to_single_images_and_masks_are_followed(root: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        folder = root / kind / "val"
        folder.mkdir()
        (folder / f"linked.{suffix}").symlink_to(root / kind / "train" / f"a.{suffix}")
    assert masks_folder(root=root, split="val").read(0).target.image_id == "linked"


@pytest.mark.parametrize("name", [False, None, 3, ""])
def test_names_that_yaml_takes_for_something_else_are_refused(root: Path, name: object) -> None:
    with pytest.raises(DataError, match=rf"^classes: {name!r} is no name of a class; put quotes around"):
        masks_folder(root=root, split="train", classes=["background", name])  # type: ignore[list-item]
