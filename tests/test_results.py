import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbvision.commands.score import score_results
from mbvision.errors import AnnotationError, ConfigError
from mbvision.metrics.coco_ap import coco_ap
from mbvision.metrics.report import format_table, write_metrics
from mbvision.metrics.results import BoxResults, read_results, write_coco_results, write_comp4
from mbvision.metrics.voc_ap import voc_ap
from mbvision.writing import replace_text
from tests.box_sets import make_annotations, make_results, random_set

COCO_ROW = {"image_id": 9, "category_id": 90, "bbox": [1, 2.5, 3, 4], "score": 0.5}
VOC_ROW = {"image": "a", "class": "dog", "score": 0.5, "box": [1, 1, 10, 20]}
SPARSE = make_annotations(images=(900_000_000_000, 0, 9), category_ids=(17, 90))
NAMED = make_annotations(images=("a", "b c", "2007_000001"))


def same(a: BoxResults, b: BoxResults) -> bool:
    fields = ("image_index", "xywh", "scores", "labels")
    return all(
        np.array_equal(getattr(a, f), getattr(b, f)) and getattr(a, f).dtype == getattr(b, f).dtype for f in fields
    )


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_coco_ids_become_places_in_the_data_set(tmp_path: Path) -> None:
    results = read_results(
        write(tmp_path / "r.json", [COCO_ROW, COCO_ROW | {"image_id": 0, "category_id": 17}]), SPARSE
    )
    assert same(results, make_results([(2, 1, 0.5, (1, 2.5, 3, 4)), (1, 0, 0.5, (1, 2.5, 3, 4))]))


def test_voc_boxes_lose_their_count_from_one(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.json", [VOC_ROW, VOC_ROW | {"image": "b c", "class": "cat"}]), NAMED)
    assert same(results, make_results([(0, 1, 0.5, (0, 0, 10, 20)), (1, 0, 0.5, (0, 0, 10, 20))]))


def test_voc_names_mean_file_names_where_ids_are_numbers(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.json", [VOC_ROW | {"image": "9"}]), SPARSE)
    assert results.image_index.tolist() == [2]


def test_an_empty_list_is_no_detections(tmp_path: Path) -> None:
    assert same(read_results(write(tmp_path / "r.json", []), SPARSE), make_results())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 5}, r"results\[1\]\.image_id 5 is none of the annotations' 3"),
        ({"image_id": "9"}, r"results\[1\]\.image_id '9'"),
        ({"image_id": [9]}, r"results\[1\]\.image_id \[9\]"),
        ({"category_id": 1}, r"results\[1\]\.category_id 1 is none of the annotations' 2"),
        ({"bbox": [1, 2, 3]}, r"results\[1\]\.bbox is \[1, 2, 3\]; it must be 4 finite numbers"),
        ({"bbox": [1, 2, 3, "4"]}, r"results\[1\]\.bbox"),
        ({"bbox": [1, 2, 3, math.nan]}, r"results\[1\]\.bbox"),
        ({"bbox": [1, 2, -3, 4]}, r"results\[1\]\.bbox has a negative width or height"),
        ({"bbox": None}, r"results\[1\]\.bbox"),
        ({"bbox": {"x": 1}}, r"results\[1\]\.bbox"),
        ({"score": math.inf}, r"results\[1\]\.score is inf; it must be a finite number"),
        ({"score": "0.5"}, r"results\[1\]\.score"),
        ({"score": [0.5, 0.6]}, r"results\[1\]\.score"),
    ],
)
def test_a_bad_coco_record_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path / "r.json", [COCO_ROW, COCO_ROW | change])
    with pytest.raises(AnnotationError, match=f"r.json: {message}"):
        read_results(path, SPARSE)


@pytest.mark.parametrize("field", COCO_ROW)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    path = write(tmp_path / "r.json", [COCO_ROW, {key: value for key, value in COCO_ROW.items() if key != field}])
    with pytest.raises(AnnotationError, match=rf"results\[1\]\.{field} is missing"):
        read_results(path, SPARSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "z"}, r"results\[1\]\.image 'z'"),
        ({"class": "bird"}, r"results\[1\]\.class 'bird'"),
        ({"box": [10, 1, 8, 20]}, r"results\[1\]\.box has a negative width or height"),
    ],
)
def test_a_bad_voc_record_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write(tmp_path / "r.json", [VOC_ROW, VOC_ROW | change])
    with pytest.raises(AnnotationError, match=message):
        read_results(path, NAMED)


@pytest.mark.parametrize("text", ["", "[{", '{"annotations": []}', "[1]", '["a"]', "[[1]]", "[" * 100_000, "\xff"])
def test_what_is_no_results_list_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"r\.json"):
        read_results(path, SPARSE)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"none\.json: no such file"):
        read_results(tmp_path / "none.json", SPARSE)


def test_images_of_one_name_are_refused_where_names_are_needed(tmp_path: Path) -> None:
    twins = make_annotations(images=("a", "a"))
    with pytest.raises(AnnotationError, match="several images are named 'a'"):
        read_results(write(tmp_path / "r.json", [VOC_ROW]), twins)


@pytest.mark.parametrize("seed", range(3))
def test_coco_results_come_back_from_their_file_in_every_digit(tmp_path: Path, seed: int) -> None:
    annotations, results = random_set(seed)
    results = BoxResults(
        image_index=results.image_index, xywh=results.xywh / 3, scores=results.scores / 7, labels=results.labels
    )
    write_coco_results(tmp_path / "r.json", results, annotations)
    assert same(read_results(tmp_path / "r.json", annotations), results)
    rows = json.loads((tmp_path / "r.json").read_text())
    assert {row["image_id"] for row in rows} <= set(annotations.image_ids)
    assert {row["category_id"] for row in rows} == set(annotations.category_ids)


def test_comp4_files_are_as_the_development_kit_wants_them(tmp_path: Path) -> None:
    write_comp4(tmp_path / "new", "val", make_results([(1, 0, 0.25, (0, 0.5, 10, 20))]), NAMED)
    assert (tmp_path / "new/comp4_det_val_cat.txt").read_text() == "b c 0.25 1.0 1.5 10.0 20.5\n"
    assert (tmp_path / "new/comp4_det_val_dog.txt").read_text() == ""


def test_comp4_files_score_the_same_when_read_back(tmp_path: Path) -> None:
    annotations, results = random_set(5)
    write_comp4(tmp_path, "val", results, annotations)
    again = read_results(tmp_path, annotations)
    assert voc_ap(annotations, again) == voc_ap(annotations, results)
    assert coco_ap(annotations, again).numbers == coco_ap(annotations, results).numbers


def test_classes_and_splits_may_hold_underscores(tmp_path: Path) -> None:
    annotations = make_annotations(images=("a",), classes=("plant", "potted_plant"))
    write(tmp_path / "comp4_det_my_val_potted_plant.txt", "a 0.5 1 1 10 10\n\n")
    write(tmp_path / "comp4_det_my_val_plant.txt", "")
    assert same(read_results(tmp_path, annotations), make_results([(0, 1, 0.5, (0, 0, 10, 10))]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("comp4_det_val_cat.txt", "a 0.5 1 1 10 10\nz 0.5 1 1 10 10", "line 2, image 'z'"),
        ("comp4_det_val_cat.txt", "\na 0.5 1 1 10", "line 2, fields: expected image score xmin ymin xmax ymax"),
        ("comp4_det_val_cat.txt", "a 0.5 1 1 10 ten", "line 1, score and box"),
        ("comp4_det_val_cat.txt", "a 0.5 1 1 10 nan", "line 1, score and box"),
        ("comp4_det_val_cat.txt", "a 0.5 1 9 10 2", "line 1, box has a negative width or height"),
        ("comp4_det_val_cat.txt", "\udcff", "cannot be read"),
        ("comp4_det_val_bird.txt", "", "ends in no class of the annotations; they have cat, dog"),
        ("comp3_det_val_cat.txt", "", "no comp4_det_SPLIT_CLASS.txt in this folder"),
    ],
)
def test_a_bad_comp4_folder_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AnnotationError, match=message):
        read_results(tmp_path, NAMED)


def test_two_splits_in_one_folder_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / f"comp4_det_{split}_cat.txt", "")
    with pytest.raises(AnnotationError, match="several splits \\(train, val\\)"):
        read_results(tmp_path, NAMED)


def test_a_class_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"'\.\./cat' cannot be part of a file name"):
        write_comp4(tmp_path / "inner", "val", make_results(), make_annotations(classes=("../cat",)))
    assert not list(tmp_path.rglob("*.txt"))


def test_metrics_keep_all_digits_and_become_plain_json(tmp_path: Path) -> None:
    metrics = {"AP": 1 / 3, "mIoU": np.float32(0.5), "loss": math.nan, "n": np.int64(3), "t": torch.tensor([1, 2])}
    write_metrics(tmp_path / "new/metrics.json", metrics | {"per_class": {"été": {"AP": -1.0}}})
    assert json.loads((tmp_path / "new/metrics.json").read_text("utf-8")) == {
        "AP": 1 / 3,
        "mIoU": 0.5,
        "loss": None,
        "n": 3,
        "t": [1, 2],
        "per_class": {"été": {"AP": -1.0}},
    }


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "metrics.json", "old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        replace_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
    assert path.read_text() == "old"


def test_the_table_shows_main_numbers_then_classes() -> None:
    metrics = {"AP": 0.63124, "AP50": -1.0, "per_class": {"raccoon": {"AP": 0.5}, "cat": {"AP": 1.0}}, "images": 3}
    assert format_table(metrics).splitlines() == [
        "AP 0.6312",
        "AP50 -1.0000",
        "",
        "class        AP",
        "---------------",
        "raccoon  0.5000",
        "cat      1.0000",
    ]
    assert format_table({"AP": 0.5}) == "AP 0.5000"


def test_files_score_without_a_model(test_data: Path) -> None:
    folder = test_data / "extra/coco_eval_val2014_100"
    predictions = folder / "instances_val2014_fakebbox100_results.json"
    truth = folder / "instances_val2014_100.json"
    expected = json.loads((folder / "expected.json").read_text())["stats"]
    for backend in ("pycocotools", "hotcoco"):
        metrics = score_results(predictions, truth, backend=backend)
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9)
        assert (metrics["images"], metrics["images_total"], len(metrics["per_class"])) == (100, 100, 80)


def test_a_voc_split_scores_without_a_model(test_data: Path) -> None:
    truth = test_data / "extra/voc2012_sample/VOCdevkit/VOC2012/ImageSets/Main/trainval.txt"
    folder = test_data / "extra/voc_eval_voc2012_sample"
    expected = json.loads((folder / "expected.json").read_text())[1]
    devkit = truth.parents[2]
    for path, split in (
        (truth, None),
        (devkit, "trainval"),
        (devkit.parents[1], "trainval"),
        (devkit / "Annotations", None),
    ):
        metrics = score_results(folder / "detections.json", path, style="voc", iou=0.75, split=split)
        assert metrics["mAP"] == pytest.approx(expected["map_area"], abs=1e-9)
        assert metrics["mAP07"] == pytest.approx(expected["map_11point"], abs=1e-9)
        assert (metrics["iou"], metrics["images"]) == (0.75, 34)


@pytest.mark.parametrize(
    ("name", "message"), [("", "folder without XML files; name a split"), ("val.txt", "is no split file of VOC")]
)
def test_annotations_of_an_unknown_kind_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_results(tmp_path / "r.json", tmp_path / name)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"style": "lvis"}, "style='lvis' is unknown; choose coco or voc"),
        ({"backend": "fast"}, "backend='fast' is unknown; choose pycocotools or hotcoco"),
        ({"iou": 2.0}, "iou=2.0 makes no sense"),
    ],
)
def test_a_wrong_setting_is_refused_before_a_file_is_read(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_results(Path("none.json"), Path("none.json"), **setting)


def test_of_very_many_classes_the_lowest_are_shown() -> None:
    per_class = {f"c{number}": {"top1": number / 1000} for number in range(1000)} | {"unseen": {"top1": -1.0}}
    lines = format_table({"top1": 0.5, "per_class": per_class}).splitlines()
    assert [line.split()[0] for line in lines[4:-1]] == [f"c{number}" for number in range(20)]
    assert lines[-1] == "the 20 lowest of 1001 classes; output=FILE.json has all"
