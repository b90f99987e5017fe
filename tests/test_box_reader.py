import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from mbvision.data.boxes import BoxColumns, BoxReader, PictureList, assemble
from mbvision.errors import AnnotationError, ImageError


def _picture(path: Path, orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (40, 30)).save(path, exif=exif)


def _reader(folder: Path, *, width: int = 40, height: int = 30) -> BoxReader:
    pictures = PictureList(ids=(7, 8), file_names=("a.png", "b.png"), sizes=np.array([[height, width], [30, 40]]))
    boxes = BoxColumns(
        pictures=np.array([1, 0, 1]),
        xywh=np.array([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]),
        labels=np.array([0, 1, 0]),
        areas=np.array([12.0, 56, 132]),
        crowd=np.array([False, False, True]),
        difficult=np.zeros(3, dtype=bool),
        ids=np.array([100, 101, 102]),
    )
    table = assemble(source="x", class_names=["c", "d"], category_ids=[1, 2], pictures=pictures, boxes=boxes)
    return BoxReader(annotations=table, images=folder)


def test_boxes_are_sorted_by_picture_and_only_usable_ones_train(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    _picture(tmp_path / "b.png")
    reader = _reader(tmp_path)
    targets = [reader.read(index).target for index in range(2)]
    assert reader.annotations.annotation_ids.tolist() == [101, 100, 102]
    assert [target.boxes.tolist() for target in targets if target.boxes is not None] == [
        [[5, 6, 12, 14]],
        [[1, 2, 4, 6]],
    ]
    assert [target.box_labels.tolist() for target in targets if target.box_labels is not None] == [[1], [0]]
    assert [target.image_id for target in targets] == [7, 8]
    assert reader.class_names["detection"] == ("c", "d")


def test_a_missing_picture_is_a_named_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"b\.png: no such picture"):
        _reader(tmp_path).read(1)


def test_a_picture_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"a\.png: the picture is 40x30, its annotation says 41x30"):
        _reader(tmp_path, width=41).read(0)


def test_boxes_drawn_on_the_stored_picture_keep_it_unrotated_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _picture(tmp_path / "a.png", orientation=6)
    reader = _reader(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert reader.read(0).image.shape == reader.read(0).image.shape == (30, 40, 3)
    assert caplog.text.count("annotated as it is stored") == 1
    assert _reader(tmp_path, width=30, height=40).read(0).image.shape == (40, 30, 3)
