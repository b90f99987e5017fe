import json
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree

from mbvision.errors import ConfigError
from mbvision.metrics.results import BoxResults, read_results
from mbvision.metrics.voc_ap import voc_ap
from mbvision.structures import BoxAnnotations
from tests.box_sets import make_annotations, make_results, random_set

BOX = (10, 10, 50, 50)


def kit_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The development kit's overlap of two inclusive boxes, counted from 1."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a, area_b = ((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return width * height / (area_a + area_b - width * height)


def inclusive(xywh: np.ndarray) -> np.ndarray:
    return np.array([xywh[0] + 1, xywh[1] + 1, xywh[0] + xywh[2], xywh[1] + xywh[3]])


def brute_force(annotations: BoxAnnotations, results: BoxResults, label: int, iou: float) -> tuple[float, float]:
    """AP07 and AP of one class, written down from the rules one detection at a time."""
    image_of = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
    ignored = annotations.difficult | annotations.crowd
    positives = int(((annotations.labels == label) & ~ignored).sum())
    if positives == 0:
        return -1.0, -1.0
    mine = [row for row in range(len(results)) if results.labels[row] == label]
    taken, outcome = set(), []
    for row in sorted(mine, key=lambda row: -results.scores[row]):
        largest, best = -1.0, -1
        for obj in np.flatnonzero((annotations.labels == label) & (image_of == results.image_index[row])):
            overlap = kit_overlap(inclusive(results.xywh[row]), inclusive(annotations.xywh[obj]))
            if overlap > largest:
                largest, best = overlap, int(obj)
        if largest >= iou and ignored[best]:
            continue
        outcome.append(largest >= iou and best not in taken)
        if outcome[-1]:
            taken.add(best)
    recall, precision, found = [0.0], [0.0], 0
    for rank, hit in enumerate(outcome, 1):
        found += hit
        recall.append(found / positives)
        precision.append(found / rank)
    eleven = [max([p for r, p in zip(recall, precision, strict=True) if r >= i / 10], default=0.0) for i in range(11)]
    recall.append(1.0)
    precision.append(0.0)
    area = sum(
        (recall[i] - recall[i - 1]) * max(precision[i:]) for i in range(1, len(recall)) if recall[i] > recall[i - 1]
    )
    return sum(eleven) / 11, area


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("iou", [0.1, 0.5, 1.0])
def test_random_sets_score_as_the_rules_say(seed: int, iou: float) -> None:
    annotations, results = random_set(seed, images=6, detections=60)
    results = BoxResults(
        image_index=results.image_index,
        xywh=np.concatenate([results.xywh[:, :2], results.xywh[:, 2:].clip(1)], axis=1),
        scores=results.scores,
        labels=results.labels,
    )
    scores = voc_ap(annotations, results, iou=iou)
    expected = [brute_force(annotations, results, label, iou) for label in range(4)]
    for name, (eleven, area) in zip(annotations.class_names, expected, strict=True):
        assert scores.per_class[name] == pytest.approx({"AP07": eleven, "AP": area}, abs=1e-12)
    present = [pair for pair in expected if pair[0] >= 0]
    means = np.mean(present, axis=0) if present else (-1, -1)
    assert scores.numbers == pytest.approx({"mAP07": means[0], "mAP": means[1]}, abs=1e-12)


def test_a_second_detection_of_an_object_is_false_even_with_another_free_beside_it() -> None:
    annotations = make_annotations([(0, 0, BOX), (0, 0, (14, 10, 50, 50))])
    twice = make_results([(0, 0, 0.9, BOX), (0, 0, 0.8, BOX)])
    assert voc_ap(annotations, twice).per_class["cat"] == pytest.approx({"AP07": 6 / 11, "AP": 0.5})


def test_an_overlap_of_just_the_threshold_is_enough() -> None:
    annotations = make_annotations([(0, 0, (0, 0, 10, 10))])
    results = make_results([(0, 0, 0.9, (0, 0, 10, 5))])
    assert voc_ap(annotations, results, iou=0.5).numbers == {"mAP07": 1.0, "mAP": 1.0}
    assert voc_ap(annotations, results, iou=0.51).numbers == {"mAP07": 0.0, "mAP": 0.0}


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_difficult_and_crowd_objects_are_neither_found_nor_missed(kind: str) -> None:
    boxes = [(0, 0, BOX), (0, 0, (200, 200, 50, 50))]
    flag = [False, True]
    annotations = make_annotations(boxes, crowd=flag) if kind == "crowd" else make_annotations(boxes, difficult=flag)
    results = make_results([(0, 0, 0.9, (200, 200, 50, 50)), (0, 0, 0.8, (200, 200, 50, 50)), (0, 0, 0.7, BOX)])
    assert voc_ap(annotations, results).numbers == {"mAP07": 1.0, "mAP": 1.0}


def test_a_class_with_only_difficult_objects_is_left_out_of_the_mean() -> None:
    annotations = make_annotations([(0, 0, BOX), (0, 1, BOX)], difficult=[False, True])
    scores = voc_ap(annotations, make_results([(0, 0, 0.9, BOX), (0, 1, 0.9, (300, 300, 20, 20))]))
    assert scores.numbers == {"mAP07": 1.0, "mAP": 1.0}
    assert scores.per_class["dog"] == {"AP07": -1.0, "AP": -1.0}


def test_no_detections_give_zero_and_no_objects_minus_one() -> None:
    assert voc_ap(make_annotations([(0, 0, BOX)]), make_results()).numbers == {"mAP07": 0.0, "mAP": 0.0}
    assert voc_ap(make_annotations(), make_results([(0, 0, 0.9, BOX)])).numbers == {"mAP07": -1.0, "mAP": -1.0}
    assert voc_ap(make_annotations(images=()), make_results()).numbers == {"mAP07": -1.0, "mAP": -1.0}


def test_boxes_without_area_find_nothing() -> None:
    annotations = make_annotations([(0, 0, (10, 10, 0, 0))])
    assert voc_ap(annotations, make_results([(0, 0, 0.9, (10, 10, 0, 0))])).numbers["mAP"] == 0.0


@pytest.mark.parametrize("part", [1, 7])
def test_work_in_parts_gives_the_same_scores(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations, results = random_set(3)
    whole = voc_ap(annotations, results)
    monkeypatch.setattr("mbvision.metrics.voc_ap._PAIRS_AT_ONCE", part)
    assert voc_ap(annotations, results) == whole


@pytest.mark.parametrize("iou", [0, -0.5, 1.5, float("nan"), "0.5"])
def test_a_senseless_iou_is_refused(iou: float) -> None:
    with pytest.raises(ConfigError, match="iou="):
        voc_ap(make_annotations(), make_results(), iou=iou)


def small_example(folder: Path) -> tuple[BoxAnnotations, BoxResults]:
    """Lines of ``class [score] left top width height``; the source adds a pixel to each side in the overlap."""
    names = sorted(file.stem for file in (folder / "groundtruths").glob("*.txt"))
    boxes, found = [], []
    for image, name in enumerate(names):
        for line in (folder / "groundtruths" / f"{name}.txt").read_text().splitlines():
            left, top, width, height = map(float, line.split()[1:])
            boxes.append((image, 0, (left, top, width + 1, height + 1)))
        for line in (folder / "detections" / f"{name}.txt").read_text().splitlines():
            score, left, top, width, height = map(float, line.split()[1:])
            found.append((image, 0, score, (left, top, width + 1, height + 1)))
    return make_annotations(boxes, images=names, classes=("object",)), make_results(found)


def test_the_well_known_small_example_has_its_published_scores(test_data: Path) -> None:
    folder = test_data / "extra/voc_eval_small"
    annotations, results = small_example(folder)
    for case in json.loads((folder / "expected.json").read_text())["own"]:
        numbers = voc_ap(annotations, results, iou=case["iou"]).numbers
        assert numbers == pytest.approx({"mAP07": case["map_11point"], "mAP": case["map_area"]}, abs=1e-9)


def voc_annotations(root: Path, *, difficult_counts: bool) -> BoxAnnotations:
    """A devkit tree's trainval images, read plainly."""
    names = (root / "ImageSets/Main/trainval.txt").read_text().split()
    objects = [
        (image, obj.findtext("name"), obj.findtext("difficult"), obj.find("bndbox"))
        for image, name in enumerate(names)
        for obj in ElementTree.parse(root / "Annotations" / f"{name}.xml").getroot().findall("object")
    ]
    classes = sorted({file.stem.rsplit("_", 1)[0] for file in (root / "ImageSets/Main").glob("*_trainval.txt")})
    boxes = []
    for image, name, _, corners in objects:
        x1, y1, x2, y2 = (float(corners.findtext(tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
        boxes.append((image, classes.index(name), (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1)))
    difficult = [flag == "1" and not difficult_counts for _, _, flag, _ in objects]
    return make_annotations(boxes, images=names, classes=classes, difficult=difficult)


def test_genuine_detections_on_voc2012_have_their_known_scores(test_data: Path) -> None:
    root = test_data / "extra/voc2012_sample/VOCdevkit/VOC2012"
    folder = test_data / "extra/voc_eval_voc2012_sample"
    cases = json.loads((folder / "expected.json").read_text())
    assert len(cases) == 3
    for number, case in enumerate(cases):
        annotations = voc_annotations(root, difficult_counts=number == 2)
        results = read_results(folder / "detections.json", annotations)
        scores = voc_ap(annotations, results, iou=case["iou"])
        assert scores.numbers == pytest.approx({"mAP07": case["map_11point"], "mAP": case["map_area"]}, abs=1e-9)
        for name, expected in case["per_class"].items():
            area, eleven = (-1 if expected[key] is None else expected[key] for key in ("ap_area", "ap_11point"))
            assert scores.per_class[name] == pytest.approx({"AP07": eleven, "AP": area}, abs=1e-9)
