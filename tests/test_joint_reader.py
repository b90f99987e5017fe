import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.data.boxes import BoxColumns, BoxReader, PictureList, assemble
from mbvision.data.joint import JointReader, MixedReader
from mbvision.data.masks import MaskItem, MaskReader, mask_file, mask_reader, mask_scheme
from mbvision.errors import AnnotationError, ConfigError

SCHEME = mask_scheme(["background", "cat"], source="test")


def _pictures(folder: Path, stems: str) -> None:
    folder.mkdir(exist_ok=True)
    for stem in stems:
        Image.new("RGB", (6, 4), (ord(stem), 0, 0)).save(folder / f"{stem}.png")


def _boxes(folder: Path, stems: str, ids: Sequence[int | str]) -> BoxReader:
    _pictures(folder, stems)
    count = len(stems)
    pictures = PictureList(
        ids=tuple(ids), file_names=tuple(f"{s}.png" for s in stems), sizes=np.tile(np.array([4, 6]), (count, 1))
    )
    columns = BoxColumns(
        pictures=np.arange(count),
        xywh=np.array([[1.0, 1, 2, 1 + 0.5 * i] for i in range(count)]),
        labels=np.zeros(count, dtype=np.int64),
        areas=np.ones(count),
        crowd=np.zeros(count, dtype=bool),
        difficult=np.zeros(count, dtype=bool),
        ids=np.arange(1, count + 1),
    )
    table = assemble(source="test", class_names=["thing"], category_ids=[1], pictures=pictures, boxes=columns)
    return BoxReader(annotations=table, images=folder)


def _masks(folder: Path, stems: str, ids: Sequence[int | str], size: tuple[int, int] = (6, 4)) -> MaskReader:
    _pictures(folder, stems)
    (folder / "masks").mkdir(exist_ok=True)
    items = []
    for number, (stem, image_id) in enumerate(zip(stems, ids, strict=True)):
        Image.new("L", size, number % 2).save(folder / "masks" / f"{stem}.png")
        mask = mask_file(folder / "masks" / f"{stem}.png", root=folder / "masks", scheme=SCHEME, max_pixels=100)
        items.append(MaskItem(image_id=image_id, image=folder / f"{stem}.png", image_root=folder, mask=mask))
    return mask_reader(items, SCHEME, source="test", max_pixels=100)


def test_the_pictures_of_both_are_united_and_each_is_read_with_the_labels_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    joint = JointReader(boxes=_boxes(folder, "abc", [1, 2, 3]), masks=_masks(folder, "cbd", ["c", "b", "d"]))
    samples = [joint.read(index) for index in range(len(joint))]
    assert [sample.image[0, 0, 0] for sample in samples] == [ord(stem) for stem in "abcd"]
    assert [sample.target.image_id for sample in samples] == [1, 2, 3, "d"]
    assert [sample.target.boxes is None for sample in samples] == [False, False, False, True]
    masks = [None if s.target.mask is None else int(s.target.mask.max()) for s in samples]
    assert masks == [None, 1, 0, 0]
    assert [joint.path(index).name for index in range(4)] == ["a.png", "b.png", "c.png", "d.png"]
    assert joint.class_names == {"detection": ("thing",), "segmentation": ("background", "cat")}


def test_the_truth_has_the_ids_of_the_samples(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    boxes = _boxes(folder, "abc", [1, 2, 3])
    joint = JointReader(boxes=boxes, masks=_masks(folder, "cbd", [1, 2, 3]))
    assert joint.truth["detection"] is boxes.annotations
    assert joint.truth["segmentation"].image_ids == (3, 2, "mask/3")  # 3 is the boxes' third picture
    assert joint.read(3).target.image_id == "mask/3"


def test_the_same_file_is_found_through_links(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = _boxes(tmp_path / "real", "ab", [1, 2])
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    with caplog.at_level(logging.WARNING):
        assert len(JointReader(boxes=boxes, masks=_masks(tmp_path / "linked", "ab", ["a", "b"]))) == 2
        assert not caplog.text
        assert len(JointReader(boxes=boxes, masks=_masks(tmp_path / "other", "ab", ["a", "b"]))) == 4
    assert "no picture of this folder has boxes and a mask" in caplog.text


def test_a_mask_of_another_size_than_the_annotated_picture_is_refused(tmp_path: Path) -> None:
    joint = JointReader(boxes=_boxes(tmp_path / "p", "a", [1]), masks=_masks(tmp_path / "p", "a", ["a"], size=(5, 4)))
    with pytest.raises(AnnotationError, match=r"a\.png: the mask is 5x4, its image 6x4"):
        joint.read(0)


def test_a_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joint = JointReader(boxes=_boxes(tmp_path / "p", "a", [1]), masks=_masks(tmp_path / "p", "a", ["a"]))
    opened: list[str] = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **options: opened.append(file.name) or original(file, **options))
    joint.read(0)
    assert len(opened) == 2 and len(set(opened)) == 2  # picture and mask


def test_sets_follow_one_another_with_ids_that_can_be_told_apart(tmp_path: Path) -> None:
    masks, boxes = _masks(tmp_path / "m", "xy", [1, 2]), _boxes(tmp_path / "b", "abc", [1, 2, 3])
    mixed = MixedReader(readers=[masks, boxes])
    assert len(mixed) == 5 and mixed.class_names == {"segmentation": ("background", "cat"), "detection": ("thing",)}
    ids = [mixed.read(index).target.image_id for index in range(5)]
    assert ids == ["1/1", "1/2", 1, 2, 3]
    assert mixed.truth["segmentation"].image_ids == ("1/1", "1/2")
    assert mixed.truth["detection"] is boxes.annotations
    with pytest.raises(IndexError):
        mixed.read(5)


def test_ids_that_differ_already_stay(tmp_path: Path) -> None:
    mixed = MixedReader(readers=[_boxes(tmp_path / "b", "ab", [1, 2]), _masks(tmp_path / "m", "xy", ["x", "y"])])
    assert [mixed.read(index).target.image_id for index in range(4)] == [1, 2, "x", "y"]


def test_two_sets_labelled_for_one_task_are_refused(tmp_path: Path) -> None:
    one, other = _boxes(tmp_path / "a", "ab", [1, 2]), _boxes(tmp_path / "b", "abc", [1, 2, 3])
    with pytest.raises(ConfigError, match=r"sets 1 and 3 of 3 \(2 pictures .*; 3 pictures .* labelled for detection"):
        MixedReader(readers=[one, _masks(tmp_path / "m", "x", ["x"]), other])
