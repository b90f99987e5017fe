import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.data.cityscapes import SCHEME, TRAIN_ID_SCHEME, cityscapes
from mbvision.errors import AnnotationError, ConfigError, DataError

TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def _add(root: Path, split: str, stem: str, values: list[int], *, kind: str = "gtFine", ids: str = "labelIds") -> None:
    city = stem.split("_")[0]
    for folder in (root / "leftImg8bit" / split / city, root / kind / split / city):
        folder.mkdir(parents=True, exist_ok=True)
    pixels = np.resize(np.array(values, dtype=np.uint8), (4, 6))
    Image.fromarray(pixels).save(root / kind / split / city / f"{stem}_{kind}_{ids}.png")
    Image.new("RGB", (6, 4)).save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")


def test_the_table_is_the_official_one() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    scored = sorted((label for label in labels if 0 <= label.trainId < 255), key=lambda label: label.trainId)
    assert SCHEME.class_names == tuple(label.name for label in scored)
    assert SCHEME.stored == tuple(label.id for label in scored)
    assert SCHEME.palette == tuple(tuple(label.color) for label in scored)
    assert SCHEME.categories == tuple(label.category for label in scored)
    assert set(SCHEME.ignored) == {label.id for label in labels if label.id >= 0 and label.ignoreInEval}


def test_there_are_19_classes_in_7_categories() -> None:
    assert SCHEME.stored == TRAIN_IDS and len(SCHEME.class_names) == 19
    assert SCHEME.categories is not None and len(set(SCHEME.categories)) == 7
    assert TRAIN_ID_SCHEME.stored == tuple(range(19)) and TRAIN_ID_SCHEME.class_names == SCHEME.class_names


def test_the_layout_gives_its_files_through_the_table(test_data: Path) -> None:
    table = np.full(256, 255, dtype=np.uint8)
    table[list(TRAIN_IDS)] = range(19)
    for split, count in (("train", 4), ("val", 3), ("train+val", 7)):
        reader = cityscapes(root=test_data / "extra" / "cityscapes_layout", split=split)
        assert len(reader) == count
        for index, image_id in enumerate(reader.annotations.image_ids):
            stem = str(image_id)
            file = next((test_data / "extra/cityscapes_layout/gtFine").rglob(f"{stem}_gtFine_labelIds.png"))
            with Image.open(file) as image:
                np.testing.assert_array_equal(reader.mask(index, (360, 480)), table[np.asarray(image)])
            assert reader.path(index).name == f"{stem}_leftImg8bit.png"
    assert reader.read(0).image.shape == (360, 480, 3)


def test_train_id_files_are_preferred(tmp_path: Path) -> None:
    _add(tmp_path, "val", "a_000000_000001", [7, 33, 0])
    assert set(cityscapes(root=tmp_path, split="val").mask(0).ravel().tolist()) == {0, 18, 255}
    _add(tmp_path, "val", "a_000000_000001", [5, 255], ids="labelTrainIds")
    assert set(cityscapes(root=tmp_path, split="val").mask(0).ravel().tolist()) == {5, 255}


def test_ids_under_the_wrong_name_are_noticed(tmp_path: Path) -> None:
    _add(tmp_path, "train", "a_000000_000001", [0, 18, 255])
    _add(tmp_path, "val", "a_000000_000002", [7, 26, 0], ids="labelTrainIds")
    with pytest.raises(AnnotationError, match=r"_labelIds\.png: .*255 \(8 pixels\).*_labelTrainIds"):
        cityscapes(root=tmp_path, split="train").read(0)
    with pytest.raises(AnnotationError, match=r"_labelTrainIds\.png: .*26 \(8 pixels\).*_labelIds"):
        cityscapes(root=tmp_path, split="val").read(0)


def test_coarse_masks_and_jpeg_pictures_are_read(tmp_path: Path) -> None:
    stem = "troisdorf_000000_000073"
    _add(tmp_path, "train_extra", stem, [7], kind="gtCoarse")
    folder = tmp_path / "leftImg8bit" / "train_extra" / "troisdorf"
    (folder / f"{stem}_leftImg8bit.png").rename(folder / f"{stem}_leftImg8bit.jpg")
    reader = cityscapes(root=tmp_path, split="train_extra", annotation="coarse")
    assert reader.annotations.image_ids == (stem,) and reader.read(0).path.endswith(".jpg")
    with pytest.raises(DataError, match="no folder gtFine there"):
        cityscapes(root=tmp_path, split="train")


def test_splits_that_cannot_be_scored_or_are_not_there_are_refused(tmp_path: Path) -> None:
    _add(tmp_path, "test", "a_000000_000001", [3])
    with pytest.raises(ConfigError, match="dummies"):
        cityscapes(root=tmp_path, split="test")
    with pytest.raises(ConfigError, match="coarse annotations only"):
        cityscapes(root=tmp_path, split="train_extra")
    with pytest.raises(ConfigError, match="choose fine or coarse"):
        cityscapes(root=tmp_path, split="train", annotation="rough")  # type: ignore[arg-type]  # a wrong value on purpose
    with pytest.raises(DataError, match="no such folder"):
        cityscapes(root=tmp_path, split="train")


def test_pictures_and_masks_without_the_other_are_told_with_their_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        _add(tmp_path, "train", f"a_000000_00000{number}", [7])
    (tmp_path / "leftImg8bit/train/a/a_000000_000000_leftImg8bit.png").unlink()
    (tmp_path / "gtFine/train/a/a_000000_000001_gtFine_labelIds.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert cityscapes(root=tmp_path, split="train").annotations.image_ids == ("a_000000_000002",)
    assert "masks without a picture" in caplog.text and "left out: 1 (a_000000_000000)" in caplog.text
    assert "pictures without a mask" in caplog.text and "left out: 1 (a_000000_000001)" in caplog.text
    (tmp_path / "gtFine/train/a/a_000000_000002_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match="none of its 1 masks"):
        cityscapes(root=tmp_path, split="train")
