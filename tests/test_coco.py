import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mbvision.data.coco import coco, load_coco
from mbvision.errors import AnnotationError, DataError

Record = dict[str, Any]


def _document(*annotations: Record, **changes: Any) -> Record:
    records = [
        {"id": 1 + k, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]} | a for k, a in enumerate(annotations)
    ]
    document = {
        "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": records,
    }
    return document | changes


def _write(folder: Path, document: object, name: str = "a.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)


def test_sparse_unsorted_and_zero_category_ids_become_contiguous_labels(tmp_path: Path) -> None:
    categories = [{"id": 90, "name": "c"}, {"id": 0, "name": "a"}, {"id": 13, "name": "b"}]
    document = _document({"category_id": 90}, {"category_id": 0}, {"category_id": 13}, categories=categories)
    table = load_coco(_write(tmp_path, document))
    assert table.class_names == ("a", "b", "c")
    assert table.category_ids == (0, 13, 90)
    assert table.labels.tolist() == [2, 0, 1]


def test_given_class_names_set_the_order_of_the_labels(tmp_path: Path) -> None:
    path = _write(tmp_path, _document({"category_id": 1}, {"category_id": 5}))
    table = load_coco(path, class_names=["dog", "bird", "cat"])
    assert table.labels.tolist() == [2, 0]
    assert table.category_ids == (5, 6, 1)
    with pytest.raises(AnnotationError, match=r"class 'dog' has boxes but is not among the classes \['cat'\]"):
        load_coco(path, class_names=["cat"])


def test_missing_area_crowd_and_segmentation_are_computed(tmp_path: Path) -> None:
    table = load_coco(_write(tmp_path, _document({}, {"area": 2.5, "iscrowd": 1, "ignore": 1}, {"area": None})))
    assert table.areas.tolist() == [12, 2.5, 12]
    assert table.crowd.tolist() == [False, True, False]
    assert table.difficult.tolist() == [False, True, False]
    assert table.usable.tolist() == [True, False, True]


def test_difficult_goes_before_ignore(tmp_path: Path) -> None:
    table = load_coco(_write(tmp_path, _document({"difficult": 0, "ignore": 1}, {"difficult": True})))
    assert table.difficult.tolist() == [False, True]


def test_boxes_are_kept_raw_for_metrics_and_clipped_for_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = [
        [-5, -5, 10, 10],
        [35, 25, 10, 10],
        [39.5, 0, 1, 5],
        [50, 5, 4, 4],
        [40, 5, 4, 4],
        [3, 3, 0, 5],
        [3, 3, 5, -1],
    ]
    table = load_coco(_write(tmp_path, _document(*({"bbox": box} for box in boxes))))
    np.testing.assert_array_equal(table.xywh, boxes)
    assert table.usable.tolist() == [True, True, True, False, False, False, False]
    assert table.training_boxes(0)[0].tolist() == [[0, 0, 5, 5], [35, 25, 40, 30], [39.5, 0, 40, 5]]
    assert "boxes that have no area and do not train: 2 (annotation ids 6 in a.png, 7 in a.png)" in caplog.text
    assert "wholly outside their picture and do not train: 2 (annotation ids 4 in a.png, 5" in caplog.text
    assert "more than 1 pixel over their picture and are clipped: 2 (annotation ids 1" in caplog.text


def test_records_that_cannot_be_read_are_dropped_with_one_warning_per_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nan, inf = float("nan"), float("inf")
    bad: list[Record] = [{"bbox": [nan, 1, 2, 3]}, {"bbox": [0, 0, inf, 1]}, {"bbox": None}, {"bbox": [None, 1, 1, 1]}]
    table = load_coco(_write(tmp_path, _document(*bad, {"image_id": 8}, {"category_id": 2}, {})))
    assert table.annotation_ids.tolist() == [7]
    assert "have no finite bbox and are left out: 4 (annotation ids 1, 2, 3, ...)" in caplog.text
    assert "of a picture which the file does not list and are left out: 1 (annotation ids 5)" in caplog.text
    assert "of a category which the file does not list and are left out: 1 (annotation ids 6)" in caplog.text
    assert len(caplog.records) == 3


def test_duplicate_annotation_ids_keep_both_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = load_coco(_write(tmp_path, _document({"id": 3}, {"id": 3})))
    assert len(table.xywh) == 2
    assert "share their annotation id with another and are kept: 1 (annotation ids 3)" in caplog.text


def test_pictures_without_objects_stay(tmp_path: Path) -> None:
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 4, "height": 3} for k in (3, 1, 2)]
    annotations = [
        {"id": k, "image_id": i, "category_id": 1, "bbox": [0, 0, 1, k]} for k, i in ((1, 2), (2, 3), (3, 2))
    ]
    table = load_coco(_write(tmp_path, _document(images=images) | {"annotations": annotations}))
    assert table.image_ids == (3, 1, 2)
    assert table.offsets.tolist() == [0, 1, 1, 3]
    assert table.annotation_ids.tolist() == [2, 1, 3]
    assert [len(table.training_boxes(i)[0]) for i in range(3)] == [1, 0, 2]
    assert len(load_coco(_write(tmp_path, _document())).xywh) == 0


def test_polygons_run_lengths_and_text_that_looks_like_them_do_no_harm(tmp_path: Path) -> None:
    polygons: list[Record] = [
        {"segmentation": [[1, 2.5, 3e0, 4, 5, -6]], "note": '"segmentation": [[1, 2]], "x'},
        {"segmentation": {"counts": [3, 4], "size": [30, 40]}, "iscrowd": 1},
        {"segmentation": []},
        {"segmentation": {"counts": "PPYo0", "size": [30, 40]}, "iscrowd": 1},
    ]
    for indent in (None, 1):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(_document(*polygons), indent=indent))
        table = load_coco(path)
        assert table.annotation_ids.tolist() == [1, 2, 3, 4]
        assert table.crowd.tolist() == [False, True, False, True]


IMAGE = {"id": 7, "file_name": "a.png", "width": 40, "height": 30}
BROKEN = {
    "not json": "annotations",
    '{"images": [1': "not valid JSON",
    "[" * 100_000: "nested too deeply",
    "[]": "holds a list, not an object",
    '{"images": {}}': "images is a dict",
    '{"images": [1]}': r"images\[0\] is a int",
    '{"images": [{"id": 1}]}': r"images\[0\]\.file_name is missing",
}
WRONG: list[tuple[Record, str]] = [
    ({"images": [IMAGE, IMAGE]}, r"images\[1\]\.id 7 is there twice"),
    ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, r"categories\[1\]\.id 1 is there twice"),
    ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, r"categories\[1\]\.name 'a' is there twice"),
    ({"categories": [{"id": "1", "name": "a"}]}, r"categories\[0\]\.id is '1', it must be a whole number"),
    ({"images": [IMAGE | {"width": 0}]}, r"images\[0\] has the size \[0.0, 30.0\]"),
    ({"images": [IMAGE | {"width": "40"}]}, r"images\[0\]\.width is '40'"),
    ({"images": []}, "images is empty"),
    ({"categories": []}, "categories is empty"),
    ({"annotations": {}}, "annotations is a dict"),
    ({"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3]}]}, r"annotations\[0\]\.bbox"),
    ({"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": ["1", 2, 3, 4]}]}, r"annotations\[0\]\.bbox"),
    ({"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": "1234"}]}, r"annotations\[0\]\.bbox"),
    ({"annotations": [{"id": 1, "image_id": 7, "bbox": [1, 2, 3, 4]}]}, r"annotations\[0\]\.category_id is missing"),
    ({"annotations": [{"id": 2**80, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}]}, "more than 64 bits"),
    ({"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 10**400]}]}, "too large"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_file_that_is_not_an_instances_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(
        AnnotationError, match=f"a.json: .*({message}|not valid JSON)" if text == "not json" else message
    ):
        load_coco(_write(tmp_path, text))


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=range(len(WRONG)))
def test_bad_structure_is_an_error_with_file_and_key_path(tmp_path: Path, changes: Record, message: str) -> None:
    with pytest.raises(AnnotationError, match=f"a.json: .*{message}"):
        load_coco(_write(tmp_path, _document(**changes)))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.png", "x/../../a.png", "C:\\a.png", "\\\\host\\a.png", "", "a\0b"]
)
def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnnotationError, match=r"images\[0\]\.file_name"):
        load_coco(_write(tmp_path, _document(images=[IMAGE | {"file_name": name}])))


def test_dots_in_a_bare_name_are_no_folder(tmp_path: Path) -> None:
    table = load_coco(_write(tmp_path, _document(images=[IMAGE | {"file_name": "sub/a..b.png"}])))
    assert table.file_names == ("sub/a..b.png",)


@pytest.mark.parametrize(
    ("annotations", "split", "pictures"),
    [
        ("annotations/instances_val.json", "val", "val"),
        ("annotations/instances_val2017.json", "val2017", "val2017"),
        ("annotations/val.json", "val", "images/val"),
        ("instances_val.json", "val", "images"),
        ("val.json", "val", "."),
        ("val/_annotations.coco.json", "val", "val"),
        ("coco/annotations/instances_val.json", "val", "JPEGImages"),
        ("annotations/my_boxes.json", "annotations/my_boxes.json", "annotations"),
        ("val.json", "val", "val/images"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path: Path, annotations: str, split: str, pictures: str) -> None:
    _write(tmp_path, _document({}), annotations)
    _picture(tmp_path / pictures / "a.png")
    sample = coco(root=tmp_path, split=split).read(0)
    assert sample.image.shape == (30, 40, 3)
    assert sample.target.image_id == 7
    assert sample.target.boxes is not None
    assert sample.target.boxes.tolist() == [[1, 2, 4, 6]]
    assert sample.target.geometry.original == (30, 40)


def test_given_folders_are_taken_and_must_exist(tmp_path: Path) -> None:
    path = _write(tmp_path, _document({}), "elsewhere/boxes.json")
    _picture(tmp_path / "photos" / "a.png")
    reader = coco(root=tmp_path, split="val", images=tmp_path / "photos", annotations=path)
    assert reader.read(0).path == str(tmp_path / "photos" / "a.png")
    with pytest.raises(DataError, match=r"data\.images=.*nowhere: there is no such folder"):
        coco(root=tmp_path, split="val", images=tmp_path / "nowhere", annotations=path)


def test_what_is_missing_is_named_with_the_places_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder.*prepare_data\.py data=coco archives=FOLDER data\.root="):
        coco(root=tmp_path / "none", split="val2017")
    with pytest.raises(DataError, match=r"no COCO file for the split 'val'; looked for .*instances_val\.json"):
        coco(root=tmp_path, split="val")
    _write(tmp_path, _document({}), "annotations/instances_val.json")
    with pytest.raises(DataError, match=r"'a\.png' is in none of .*say where by data\.images=FOLDER"):
        coco(root=tmp_path, split="val")


def test_the_table_equals_pycocotools_on_genuine_coco_annotations(test_data: Path) -> None:
    path = test_data / "extra" / "coco_eval_val2014_100" / "instances_val2014_100.json"
    table, reference = load_coco(path), COCO(path)
    records = [record for image_id in table.image_ids for record in reference.imgToAnns[image_id]]
    assert table.annotation_ids.tolist() == [record["id"] for record in records]
    assert table.xywh.tolist() == [record["bbox"] for record in records]
    assert table.areas.tolist() == [record["area"] for record in records]
    assert [table.category_ids[label] for label in table.labels] == [record["category_id"] for record in records]
    assert int(table.crowd.sum()) == 9
    assert len(table.class_names) == 80


def test_the_official_2017_layout_is_read_untouched(test_data: Path) -> None:
    root = test_data / "extra" / "coco2017_layout"
    readers = [coco(root=root, split=split) for split in ("train2017", "val2017")]
    assert [len(reader) for reader in readers] == [6, 3]
    assert len(readers[0].class_names["detection"]) == 80
    counts = [len(reader.read(i).target.boxes) for reader in readers for i in range(len(reader))]  # type: ignore[arg-type]  # it has boxes
    assert counts.count(0) == 1


@pytest.mark.parametrize("name", ["bccd", "raccoon"])
def test_every_picture_of_the_small_sets_can_be_read(test_data: Path, name: str) -> None:
    reader = coco(root=test_data / name, split="val")
    assert all(reader.read(i).image.shape[:2] == tuple(reader.annotations.sizes[i]) for i in range(len(reader)))


def test_pictures_apart_from_the_root_are_named_by_images(test_data: Path) -> None:
    root = test_data / "bccd"
    reader = coco(root=root / "coco", split="val", images=root / "JPEGImages")
    assert reader.path(0) == coco(root=root, split="val").path(0)


QUIRKS = {
    "captions_not_instances": "has no key 'categories'",
    "cut_off": "not valid JSON",
    "instances_empty_lists": "images is empty",
    "results_empty_list": "holds a list",
    "instances_duplicate_annotation_id": 2,
    "instances_quirks": 8,
    "instances_unknown_category": 0,
    "instances_unknown_image": 0,
}


@pytest.mark.parametrize("name", QUIRKS)
def test_every_quirk_has_its_stated_outcome(test_data: Path, name: str) -> None:
    path = test_data / "extra" / "quirks" / "coco" / f"{name}.json"
    outcome = QUIRKS[name]
    if isinstance(outcome, str):
        with pytest.raises(AnnotationError, match=f"{name}.json: {outcome}"):
            load_coco(path)
    else:
        assert len(load_coco(path).xywh) == outcome


def test_the_quirks_file_keeps_what_metrics_need_and_trains_on_the_rest(test_data: Path) -> None:
    table = load_coco(test_data / "extra" / "quirks" / "coco" / "instances_quirks.json")
    assert table.class_names == ("person", "hot dog", "toothbrush")
    unusable = table.annotation_ids[~table.usable].tolist()
    assert unusable == [918, 900100000001, 900100000002]
    assert table.xywh[table.annotation_ids == 918].tolist() == [[296.65, 368.33, 1.03, 0.0]]


def test_windows_separators_and_escapes_in_file_names_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [
        {"id": number, "file_name": name, "width": 40, "height": 30}
        for number, name in enumerate(("val\\0.png", "val/my%20image.PNG", "val/gone.png"))
    ]
    document = _document({"image_id": 0}, images=records)
    _write(tmp_path, document, "annotations/instances_val.json")
    _picture(tmp_path / "val" / "0.png")
    _picture(tmp_path / "val" / "my image.png")
    reader = coco(root=tmp_path, split="val")
    assert [reader.read(index).target.image_id for index in (0, 1)] == [0, 1]
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        f"{tmp_path}: 2 of 3 names are not spelled as their files, which are read all the same",
        f"{tmp_path}: 1 of 3 images are not there",
    ]


@pytest.mark.parametrize("root_name", ["shapes", "cat"])
def test_a_category_0_that_is_the_others_group_is_no_class(
    tmp_path: Path, root_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    categories = [
        {"id": 0, "name": root_name, "supercategory": "none"},  # as Roboflow exports it
        *({"id": number, "name": name, "supercategory": root_name} for number, name in enumerate(("cat", "dog"), 1)),
    ]
    document = _document({}, {"category_id": 2}, categories=categories)
    table = load_coco(_write(tmp_path, document))
    assert table.class_names == ("cat", "dog") and table.category_ids == (1, 2) and table.labels.tolist() == [0, 1]
    assert f"a.json: category 0, '{root_name}', is left out: no object has it" in caplog.text
    if root_name == "shapes":  # one that an object has is a class
        table = load_coco(_write(tmp_path, document | {"annotations": _document({"category_id": 0})["annotations"]}))
        assert table.class_names == ("shapes", "cat", "dog")


def test_an_unused_category_0_of_no_group_stays_a_class_and_background_does_not(tmp_path: Path) -> None:
    for name, names in (("bird", ("bird", "cat")), ("Background", ("cat",))):
        categories = [{"id": 0, "name": name}, {"id": 1, "name": "cat"}]
        assert load_coco(_write(tmp_path, _document({}, categories=categories))).class_names == names


def test_strange_values_of_iscrowd_and_areas_of_0_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = [0, 1, True, False, 2, -1, 0.5, 2**70]
    table = load_coco(_write(tmp_path, _document(*({"iscrowd": value, "area": 0} for value in values))))
    assert table.crowd.tolist() == [False, True, True, False, True, True, True, True]
    assert "boxes that have an iscrowd that is neither 0 nor 1 and count as crowds: 4 (annotation ids 5" in caplog.text
    assert "boxes that have an area of 0, so COCO's numbers by size count them as small: 8 (annot" in caplog.text
