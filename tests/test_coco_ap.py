import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mbvision.errors import ConfigError
from mbvision.metrics.coco_ap import Backend, coco_ap
from mbvision.metrics.results import read_results
from mbvision.structures import BoxAnnotations
from tests.box_sets import NAMES, instances_annotations, make_annotations, make_results, pycocotools_scores, random_set

BACKENDS: tuple[Backend, ...] = ("pycocotools", "hotcoco")
both_backends = pytest.mark.parametrize("backend", BACKENDS)


@both_backends
@pytest.mark.parametrize("seed", range(25))
def test_random_sets_score_as_pycocotools_run_on_its_own(backend: Backend, seed: int) -> None:
    annotations, results = random_set(seed)
    scores = coco_ap(annotations, results, backend=backend)
    expected = pycocotools_scores(annotations, results)
    assert tuple(scores.numbers) == NAMES
    np.testing.assert_allclose(list(scores.numbers.values()), expected.stats, rtol=0, atol=1e-12)
    order = sorted(annotations.category_ids)
    for name, category in zip(annotations.class_names, annotations.category_ids, strict=True):
        precision = expected.eval["precision"][:, :, order.index(category), 0, 2]
        np.testing.assert_allclose(scores.curves[name], precision[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(scores.per_class[name]["AP"], precision.mean(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(scores.per_class[name]["AP50"], precision[0].mean(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(100, 130))
def test_the_backends_agree_in_every_digit(seed: int) -> None:
    annotations, results = random_set(seed)
    first, second = (coco_ap(annotations, results, backend=backend) for backend in BACKENDS)
    assert first.numbers == second.numbers
    assert first.per_class == second.per_class
    for name, curve in first.curves.items():
        np.testing.assert_array_equal(curve, second.curves[name])


@both_backends
def test_only_the_100_best_of_an_image_and_category_count(backend: Backend) -> None:
    annotations = make_annotations([(0, 0, (10, 10, 50, 50)), (0, 1, (10, 10, 50, 50))])
    misses = [(0, 0, 0.9, (300, 300, 20, 20))] * 100
    late = make_results([*misses, (0, 0, 0.5, (10, 10, 50, 50)), (0, 1, 0.1, (10, 10, 50, 50))])
    scores = coco_ap(annotations, late, backend=backend)
    assert scores.per_class["cat"]["AP"] == 0
    assert scores.per_class["dog"]["AP"] == pytest.approx(1)
    assert scores.numbers["AR100"] == 0.5


@both_backends
def test_no_detections_give_zeros_and_minus_one_where_nothing_is_to_find(backend: Backend) -> None:
    annotations = make_annotations([(0, 0, (10, 10, 50, 50))])
    scores = coco_ap(annotations, make_results(), backend=backend)
    small_or_large = {"APsmall", "APlarge", "ARsmall", "ARlarge"}
    assert scores.numbers == {name: -1.0 if name in small_or_large else 0.0 for name in NAMES}
    assert scores.per_class == {"cat": {"AP": 0.0, "AP50": 0.0}, "dog": {"AP": -1.0, "AP50": -1.0}}


@both_backends
@pytest.mark.parametrize(
    "annotations",
    [
        make_annotations(),
        make_annotations(images=()),
        make_annotations(classes=()),
        make_annotations([(0, 0, (10, 10, 50, 50))], crowd=[True]),
    ],
    ids=["no objects", "no images", "no classes", "only a crowd"],
)
def test_no_ground_truth_gives_minus_one_throughout(backend: Backend, annotations: BoxAnnotations) -> None:
    found = [(0, 0, 0.9, (10, 10, 50, 50))] if annotations.image_ids and annotations.class_names else []
    scores = coco_ap(annotations, make_results(found), backend=backend)
    assert set(scores.numbers.values()) == {-1.0}
    assert all(set(values.values()) == {-1.0} for values in scores.per_class.values())


@both_backends
def test_duplicate_annotation_ids_and_id_zero_are_separate_objects(backend: Backend) -> None:
    boxes = [(0, 0, (10, 10, 50, 50)), (0, 0, (200, 200, 50, 50))]
    annotations = make_annotations(boxes, annotation_ids=[0, 0])
    results = make_results([(0, 0, 0.9, boxes[0][2]), (0, 0, 0.8, boxes[1][2])])
    assert coco_ap(annotations, results, backend=backend).numbers["AP"] == pytest.approx(1)


@both_backends
def test_images_may_have_names_instead_of_numbers(backend: Backend) -> None:
    annotations = make_annotations([(1, 0, (10, 10, 50, 50))], images=("b", "a"))
    results = make_results([(1, 0, 0.9, (10, 10, 50, 50))])
    assert coco_ap(annotations, results, backend=backend).numbers["AP"] == pytest.approx(1)


@both_backends
def test_nothing_is_printed(backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    coco_ap(*random_set(0), backend=backend)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_backend_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"backend='cocoapi' is unknown; choose pycocotools or hotcoco"):
        coco_ap(make_annotations(), make_results(), backend="cocoapi")  # type: ignore[arg-type]  # a wrong value on purpose


def test_a_missing_hotcoco_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(ConfigError, match=r'pip install "mbvision\[fast-eval\]"'):
        coco_ap(*random_set(0), backend="hotcoco")


@both_backends
def test_the_genuine_val2014_sample_scores_as_published(backend: Backend, test_data: Path) -> None:
    folder = test_data / "extra/coco_eval_val2014_100"
    expected = json.loads((folder / "expected.json").read_text())
    annotations = instances_annotations(folder / "instances_val2014_100.json")
    results = read_results(folder / "instances_val2014_fakebbox100_results.json", annotations)
    scores = coco_ap(annotations, results, backend=backend)
    assert scores.numbers == pytest.approx(expected["stats"], abs=1e-9)
    for name, category in zip(annotations.class_names, annotations.category_ids, strict=True):
        for key, value in expected["per_category"][str(category)].items():
            assert scores.per_class[name][key] == pytest.approx(-1 if value is None else value, abs=1e-9)
