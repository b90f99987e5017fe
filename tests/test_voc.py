from pathlib import Path

import pytest
from PIL import Image

from mbvision.data.coco import coco
from mbvision.data.voc import VOC_CLASSES, load_voc, voc
from mbvision.data.voc_xml import parse_voc_xml
from mbvision.errors import AnnotationError, DataError, ImageError
from mbvision.structures import BoxAnnotations


def _object(name: str = "car", box: tuple[object, ...] = (1, 2, 10, 20), more: str = "") -> str:
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def _xml(*objects: str, size: str = "<size><width>40</width><height>30</height><depth>3</depth></size>") -> str:
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def _set(root: Path, splits: dict[str, dict[str, str]]) -> Path:
    """A data set of 40x30 pictures: the XML text of every stem of every split."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, files in splits.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in files))
        for stem, text in files.items():
            (root / "Annotations" / f"{stem}.xml").write_text(text)
            Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{stem}.jpg")
    return root


def _one(tmp_path: Path, *objects: str) -> BoxAnnotations:
    return load_voc(_set(tmp_path, {"train": {"a": _xml(*objects)}}), "train")


def test_corners_count_from_1_and_include_the_last_pixel(tmp_path: Path) -> None:
    table = _one(tmp_path, _object(box=(1, 1, 40, 30)), _object(box=(40, 30, 40, 30)), _object(box=(3, 5, 12, 6)))
    assert table.xywh.tolist() == [[0, 0, 40, 30], [39, 29, 1, 1], [2, 4, 10, 2]]
    assert table.areas.tolist() == [1200, 1, 20]
    assert table.training_boxes(0)[0].tolist() == [[0, 0, 40, 30], [39, 29, 40, 30], [2, 4, 12, 6]]
    assert table.annotation_ids.tolist() == [1, 2, 3]


def test_decimals_and_blanks_are_read(tmp_path: Path) -> None:
    table = _one(tmp_path, _object(name=" car ", box=(" 1 ", "2.5", "\n10", "20.5")))
    assert table.xywh.tolist() == [[0, 1.5, 10, 19]]
    assert table.class_names[table.labels[0]] == "car"


def test_parts_of_an_object_are_no_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></part>"
    table = _one(tmp_path, _object("person", more=part))
    assert table.xywh.tolist() == [[0, 1, 10, 19]]
    assert table.class_names == VOC_CLASSES


@pytest.mark.parametrize(
    ("flag", "difficult"),
    [("1", True), (" 1\n", True), ("0", False), ("", False), ("Unspecified", False), (None, False)],
)
def test_a_missing_or_unspecified_difficult_is_0(tmp_path: Path, flag: str | None, difficult: bool) -> None:
    table = _one(tmp_path, _object(more="" if flag is None else f"<difficult>{flag}</difficult>"))
    assert table.difficult.tolist() == [difficult]
    assert table.usable.tolist() == [not difficult]


def test_exchanged_corners_are_put_right_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert _one(tmp_path, _object(box=(20, 10, 11, 4))).xywh.tolist() == [[10, 3, 10, 7]]
    assert "min and max exchanged and are put right: 1 (annotation ids object[0] in a.xml)" in caplog.text


def test_an_object_without_a_box_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = _one(tmp_path, "<object><name>car</name></object>", _object(box=("nan", 1, 2, 3)), _object())
    assert table.annotation_ids.tolist() == [1]
    assert "no finite bndbox and are left out: 2 (annotation ids object[0] in a.xml, object[1]" in caplog.text


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", "<size/>"])
def test_a_missing_size_is_read_from_the_picture(tmp_path: Path, size: str) -> None:
    root = _set(tmp_path, {"train": {"a": _xml(_object(), size=size)}})
    assert load_voc(root, "train").sizes.tolist() == [[30, 40]]
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(ImageError, match=r"a\.jpg: no such picture"):
        load_voc(root, "train")


BAD = {
    "cut": ("<annotation><object><name>per", "not valid XML"),
    "empty": ("", "not valid XML"),
    "root": ("<annotations></annotations>", "its root element is <annotations>"),
    "namespace": ('<annotation xmlns="http://x"></annotation>', r"its root element is <\{http://x\}annotation>"),
    "entity": ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "refused"),
    "document type": ("<!DOCTYPE annotation><annotation></annotation>", "refused"),
    "no name": (_xml("<object></object>"), r"object\[0\]\.name is missing"),
    "no number": (_xml(_object(), _object(box=("x", 1, 2, 3))), r"object\[1\]\.bndbox\.xmin is 'x'"),
    "large": ("<annotation>" + " " * 5_000_000 + "</annotation>", "above the limit"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_an_error_that_names_file_and_element(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    with pytest.raises(AnnotationError, match=rf"a\.xml: .*{message}"):
        load_voc(_set(tmp_path, {"train": {"a": text}}), "train")


def test_an_xml_file_that_is_missing_is_named(tmp_path: Path) -> None:
    root = _set(tmp_path, {"train": {"a": _xml()}})
    (root / "Annotations" / "a.xml").unlink()
    with pytest.raises(AnnotationError, match=r"a\.xml: no such VOC annotation"):
        load_voc(root, "train")


def test_names_among_the_official_ones_give_the_20_official_classes(tmp_path: Path) -> None:
    assert _one(tmp_path, _object("tvmonitor")).labels.tolist() == [19]
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)


def test_all_splits_of_a_set_have_the_same_labels(tmp_path: Path) -> None:
    splits = {"train": {"a": _xml(_object("robot")), "b": _xml()}, "val": {"c": _xml(_object("apple"))}}
    root = _set(tmp_path, splits)
    (root / "Annotations" / "unlisted.xml").write_text(_xml(_object("zebra")))
    (root / "ImageSets" / "Main" / "robot_train.txt").write_text("a  1\nb -1\n")
    tables = [load_voc(root, split) for split in ("train", "val")]
    assert tables[0].class_names == tables[1].class_names == ("apple", "robot")
    assert [table.labels.tolist() for table in tables] == [[1], [0]]
    assert tables[0].image_ids == ("a", "b")
    assert tables[0].offsets.tolist() == [0, 1, 1]


def test_given_class_names_win_and_a_name_outside_them_is_an_error(tmp_path: Path) -> None:
    root = _set(tmp_path, {"train": {"a": _xml(_object("robot"))}})
    assert load_voc(root, "train", class_names=["x", "robot"]).labels.tolist() == [1]
    with pytest.raises(AnnotationError, match=r"a\.xml: object\[0\]\.name 'robot' is not among the classes \['x'\]"):
        load_voc(root, "train", class_names=["x"])


def test_a_broken_file_of_another_split_does_not_stop_this_one(tmp_path: Path) -> None:
    root = _set(tmp_path, {"train": {"a": _xml(_object("robot"))}, "val": {"b": "<annotation>"}})
    assert load_voc(root, "train").class_names == ("robot",)


@pytest.mark.parametrize("where", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_root_may_be_the_year_the_devkit_or_its_parent(tmp_path: Path, where: str) -> None:
    _set(tmp_path / where, {"train": {"a": _xml(_object())}})
    sample = voc(root=tmp_path, split="train").read(0)
    assert sample.path == str(tmp_path / where / "JPEGImages" / "a.jpg")
    assert sample.image.shape == (30, 40, 3)


def test_splits_of_several_years_are_joined(tmp_path: Path) -> None:
    _set(tmp_path / "VOC2007", {"trainval": {"1": _xml(_object("cat")), "2": _xml()}})
    _set(tmp_path / "VOC2012", {"trainval": {"3": _xml(_object("dog"))}})
    reader = voc(root=tmp_path, split="VOC2007/trainval+VOC2012/trainval")
    assert reader.annotations.image_ids == ("1", "2", "3")
    assert [Path(reader.read(i).path).parts[-3] for i in range(3)] == ["VOC2007", "VOC2007", "VOC2012"]
    assert reader.annotations.annotation_ids.tolist() == [1, 2]
    with pytest.raises(DataError, match=r"'trainval' is in several years; say which: VOC2007/trainval or VOC2012"):
        voc(root=tmp_path, split="trainval")


def test_names_used_in_two_years_get_the_year_into_their_id(tmp_path: Path) -> None:
    _set(tmp_path / "VOC2007", {"train": {"1": _xml()}})
    _set(tmp_path / "VOC2012", {"train": {"1": _xml()}})
    reader = voc(root=tmp_path, split="VOC2007/train + VOC2012/train")
    assert reader.annotations.image_ids == ("VOC2007/1", "VOC2012/1")
    with pytest.raises(DataError, match="named twice"):
        voc(root=tmp_path, split="VOC2007/train+VOC2007/train")


def test_a_folder_of_xml_files_with_the_pictures_beside_them_is_a_split(tmp_path: Path) -> None:
    for split, name in (("train", "robot"), ("valid", "apple")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "x.rf.1.xml").write_text(_xml(_object(name)))
        Image.new("RGB", (40, 30)).save(tmp_path / split / "x.rf.1.png")
    reader = voc(root=tmp_path, split="valid")
    assert reader.class_names["detection"] == ("apple", "robot")
    assert reader.read(0).target.image_id == "x.rf.1"


def test_pictures_may_lie_apart_and_have_another_suffix(tmp_path: Path) -> None:
    root = _set(tmp_path, {"train": {"a": _xml(_object())}})
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "a.JPG", format="JPEG")
    assert Path(voc(root=root, split="train", images=tmp_path / "photos").read(0).path).name == "a.JPG"


def test_split_files_of_other_tools_are_read(tmp_path: Path) -> None:
    root = _set(tmp_path, {"train": {"a b": _xml(), "c": _xml()}})
    (root / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xef\xbb\xbfa b.jpg\r\n\r\nc\r\n")
    assert load_voc(root, "train").image_ids == ("a b", "c")


@pytest.mark.parametrize(
    ("text", "message"), [("", "lists no picture"), ("a\na\n", "lists 'a' twice"), ("../a\n", "leads out of the data")]
)
def test_a_senseless_split_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    root = _set(tmp_path, {"train": {"a": _xml()}})
    (root / "ImageSets" / "Main" / "train.txt").write_text(text)
    with pytest.raises(DataError, match=f"train.txt: .*{message}"):
        load_voc(root, "train")


def test_what_is_missing_is_named_with_the_places_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder.*prepare_data\.py data=voc archives=FOLDER data\.root="):
        voc(root=tmp_path / "none", split="train")
    with pytest.raises(DataError, match=r"no VOC split 'train'; looked for .*train\.txt"):
        voc(root=tmp_path, split="train")


def _rows(table: BoxAnnotations) -> list[tuple[object, ...]]:
    return sorted(
        (table.file_names[image], table.class_names[table.labels[row]], *table.xywh[row], table.areas[row])
        for image in range(len(table))
        for row in range(table.offsets[image], table.offsets[image + 1])
    )


@pytest.mark.parametrize(
    ("name", "split", "boxes"),
    [("bccd", "train", 2805), ("bccd", "val", 1138), ("raccoon", "train", 173), ("raccoon", "val", 44)],
)
def test_voc_and_coco_files_of_one_set_give_the_same_boxes(test_data: Path, name: str, split: str, boxes: int) -> None:
    tables = [reader(root=test_data / name, split=split).annotations for reader in (voc, coco)]
    assert _rows(tables[0]) == _rows(tables[1])
    assert len(_rows(tables[0])) == boxes
    assert all(table.usable.all() for table in tables)


def test_the_one_pixel_boxes_of_bccd_are_boxes(test_data: Path) -> None:
    table = voc(root=test_data / "bccd", split="val").annotations
    boxes, _ = table.training_boxes(table.image_ids.index("BloodImage_00338"))
    assert (boxes[:, 2:] - boxes[:, :2]).tolist().count([1, 1]) == 1


def test_the_official_2012_layout_is_read_untouched(test_data: Path) -> None:
    root = test_data / "extra" / "voc2012_sample"
    readers = [voc(root=root, split=split) for split in ("train", "val")]
    assert [len(reader) for reader in readers] == [24, 10]
    assert sum(len(reader.annotations.xywh) for reader in readers) == 87
    assert sum(int(reader.annotations.difficult.sum()) for reader in readers) == 17
    assert all(reader.class_names["detection"] == VOC_CLASSES for reader in readers)
    assert all(reader.read(i).image.ndim == 3 for reader in readers for i in range(len(reader)))


QUIRKS: dict[str, list[list[float]] | str] = {
    "all_difficult": [[0, 0, 40, 40]],
    "box_at_limits": [[0, 0, 500, 375], [499, 374, 1, 1]],
    "box_outside": [[-1, -1, 502, 381], [599, 9, 101, 41]],
    "box_swapped": [[99, 49, 101, 51]],
    "cut_off": "not valid XML",
    "empty_flags": [[90, 106, 150, 224]],
    "filename_differs": [[9, 9, 41, 41]],
    "filename_without_suffix": [[9, 9, 41, 41]],
    "float_coordinates": [[11, 44.70000076293945, 79, 237]],
    "no_bndbox": [],
    "no_objects": [],
    "no_size": [[9, 9, 41, 41]],
    "parts_inside_object": [[9, 19, 191, 281]],
    "reordered_and_missing_fields": [[9, 14, 201, 106], [4, 4, 56, 66]],
    "unknown_class": [[9, 9, 41, 41]],
    "unspecified_flags": [[9, 9, 41, 41]],
    "utf8_bom": [[9, 9, 41, 41]],
    "whitespace_in_values": [[9, 19, 21, 21]],
    "zero_size": [[9, 9, 41, 41]],
}


@pytest.mark.parametrize("name", QUIRKS)
def test_every_quirk_has_its_stated_outcome(test_data: Path, name: str) -> None:
    path = test_data / "extra" / "quirks" / "voc" / f"{name}.xml"
    outcome = QUIRKS[name]
    if isinstance(outcome, str):
        with pytest.raises(AnnotationError, match=f"{name}.xml: {outcome}"):
            parse_voc_xml(path)
    else:
        assert [list(thing.box) for thing in parse_voc_xml(path).objects if thing.box] == outcome


def _nested(root: Path, suffix: str) -> Path:
    """A set whose splits are in folders of their own below ``Annotations`` and ``JPEGImages``, as CVAT exports it."""
    for folder in ("Annotations", "JPEGImages"):
        for camera in ("cam1", "cam2"):
            (root / folder / camera).mkdir(parents=True)
    _set(root, {"train": {"cam1/0": _xml(_object("fox"))}, "val": {"cam2/0": _xml(_object("hare"))}})
    for camera in ("cam1", "cam2"):
        (root / "JPEGImages" / camera / "0.jpg").rename(root / "JPEGImages" / camera / f"0{suffix}")
    return root


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".JPG", ".jfif"])
def test_images_and_classes_in_sub_folders_are_found(tmp_path: Path, suffix: str) -> None:
    for split, camera in (("train", "cam1"), ("val", "cam2")):
        reader = voc(root=_nested(tmp_path / split, suffix), split=split)
        assert reader.path(0) == tmp_path / split / "JPEGImages" / camera / f"0{suffix}"
        assert reader.class_names["detection"] == ("fox", "hare")


def test_xml_files_beside_images_are_read_in_sub_folders_and_hidden_ones_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train/10", "train/9", "train/deep/1", "valid/1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.xml").write_text(_xml(_object("fox" if name.startswith("t") else "hare")))
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    (tmp_path / "train" / "._9.xml").write_bytes(b"\0\5\26\7")
    (tmp_path / "valid" / "._1.xml").write_bytes(b"\0\5\26\7")
    reader = voc(root=tmp_path, split="train")
    assert reader.annotations.image_ids == ("9", "10", "deep/1")
    assert reader.class_names["detection"] == ("fox", "hare")
    assert caplog.messages == [f"{tmp_path}/train: passed over: 1 hidden or system files (._9.xml)"]
