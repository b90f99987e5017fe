"""The parts of the data checks beside brute force: pairs of boxes, the anchors' reach, sameness of pictures."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from benchmarks.check_data import FAULTS, write
from mbvision.boxes import corners
from mbvision.build import build_network
from mbvision.commands.compose import compose_config
from mbvision.commands.data_report import head_anchors, meta_network
from mbvision.data.image_folder import image_folder
from mbvision.data.transforms.fit import Fit
from mbvision.data_checks.anchor_reach import best_overlaps, better_anchors, recall_by_class
from mbvision.data_checks.box_checks import BoxTable
from mbvision.data_checks.check_set import check_annotations
from mbvision.data_checks.file_checks import coco_boxes
from mbvision.data_checks.findings import by_cause
from mbvision.data_checks.overlaps import similar_pairs
from mbvision.data_checks.picture_checks import look_at_all
from mbvision.data_checks.reach_checks import HeadAnchors, anchor_keys, check_reach, relative_boxes
from mbvision.data_checks.same_pictures import fingerprint, how_alike, is_blank, likely_pairs
from mbvision.heads.anchors import Layout, SSDAnchors
from tests.box_sets import make_annotations
from tests.fault_sets import cut, picture, save

SIZES = [(10, 12), (5, 6), (3, 3), (1, 1)]


def random_boxes(seed: int, count: int) -> np.ndarray:
    """Boxes of all sizes in 0..1, some of them without area."""
    random = np.random.default_rng(seed)
    sides = np.exp(random.uniform(np.log(0.004), np.log(1.0), (count, 2))) * (random.random((count, 1)) > 0.03)
    starts = random.random((count, 2)) * (1 - sides)
    return np.concatenate([starts, starts + sides], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes = random.integers(0, 7, (200, 4)).astype(np.float64)
    boxes[:, 2:] += boxes[:, :2] + random.integers(0, 5, (200, 2))
    pictures = np.sort(random.integers(0, 12, 200))
    iou = np.nan_to_num(box_iou(*[torch.from_numpy(boxes)] * 2).numpy())
    alike = np.triu((iou >= 0.6) & (pictures[:, None] == pictures), k=1)
    pairs = similar_pairs(boxes, pictures, least_iou=0.6)
    assert len(pairs.iou) > 10
    assert np.array_equal(np.stack([pairs.first, pairs.second]), np.stack(np.nonzero(alike)))
    assert pairs.iou == pytest.approx(iou[alike])


def test_no_boxes_and_a_single_box_give_no_pairs() -> None:
    for count in (0, 1):
        assert len(similar_pairs(np.ones((count, 4)), np.zeros(count, dtype=np.int64), least_iou=0.5).iou) == 0


def test_a_set_with_too_many_pairs_stops_early() -> None:
    boxes = np.tile([[0.0, 0.0, 5.0, 5.0]], (300, 1))
    pairs = similar_pairs(boxes, np.zeros(300, dtype=np.int64), least_iou=0.9, most=1000)
    assert 1000 <= len(pairs.iou) < 1300


@pytest.mark.parametrize("layout", ["tensorflow", "torchvision"])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_overlap_is_that_of_all_anchors(layout: Layout, seed: int) -> None:
    anchors = SSDAnchors(min_scale=0.1, max_scale=0.9, aspect_ratios=(2.0, 3.0), layout=layout)
    boxes = random_boxes(seed, 400)
    every = corners(anchors(SIZES, torch.empty(0)))
    best = box_iou(torch.from_numpy(boxes).float(), every).amax(dim=1).numpy()
    assert best_overlaps(boxes, SIZES, anchors.shapes(len(SIZES))) == pytest.approx(best, abs=1e-5)


def test_recall_is_the_share_of_each_class() -> None:
    recall = recall_by_class(np.array([0.5, 0.49, 0.9, 0.1]), np.array([0, 0, 2, 2]), 4, 0.5)
    assert recall.tolist()[::2] == [0.5, 0.5] and np.isnan(recall[[1, 3]]).all()


def test_anchors_that_fit_the_boxes_are_proposed() -> None:
    random = np.random.default_rng(0)
    sides = np.full((300, 2), 0.1)
    starts = random.random((300, 2)) * 0.9
    boxes = np.concatenate([starts, starts + sides], axis=1)
    labels = np.zeros(300, dtype=np.int64)
    given = SSDAnchors(min_scale=0.5)
    sizes = [(20, 20), (10, 10), (5, 5)]
    before = recall_by_class(best_overlaps(boxes, sizes, given.shapes(3)), labels, 1, 0.5)
    choice = better_anchors(boxes, labels, 1, sizes=sizes, layout="tensorflow", least_iou=0.5)
    assert before[0] == 0 and choice.recall > 0.9
    proposed = SSDAnchors(
        min_scale=choice.min_scale, max_scale=choice.max_scale, aspect_ratios=choice.aspect_ratios, layout=choice.layout
    )
    assert (best_overlaps(boxes, sizes, proposed.shapes(3)) >= 0.5).mean() == choice.recall


@pytest.mark.parametrize(("fit", "letterboxed"), [("stretch", [0, 0, 1, 1]), ("letterbox", [0, 0, 1, 0.5])])
def test_boxes_are_taken_as_the_pictures_are_fitted(fit: Fit, letterboxed: Sequence[float]) -> None:
    table = BoxTable(make_annotations([(0, 0, [-5, 0, 700, 480])]), "train")  # of 640x480
    head = HeadAnchors(anchors=SSDAnchors(), input_size=(480, 320), fit=fit, sizes=[(1, 1)], least_iou=0.5)
    assert relative_boxes(table, head, np.array([0])).tolist() == [pytest.approx(letterboxed)]


@pytest.mark.parametrize("keys", [["input_size=[96,160]"], ["input_size=[97,161]", "output_stride=16"]])
def test_the_anchors_are_those_of_the_configured_network(keys: list[str]) -> None:
    config = compose_config("train", ["backbone=mobilenet_v3_small", *keys])
    head = head_anchors(config, meta_network(config))
    assert head is not None and head.finer is not None
    for sizes, taps in ((head.sizes, config["heads"]["detection"]["taps"]), (head.finer, list(head.finer_taps))):
        node = {**config["heads"]["detection"], "taps": taps}
        network = build_network({**config, "heads": {"detection": node}}, {"detection": 3}).eval()
        with torch.no_grad():
            anchors = network(torch.zeros(1, 3, *head.input_size))["detection"].anchors
        assert torch.equal(head.anchors(sizes, torch.empty(0)), anchors)


def test_the_proposed_keys_are_keys_of_training(tmp_path: Path) -> None:
    boxes = [(0, 0, [20.0 * n, 20, 16, 16]) for n in range(30)]
    config = compose_config("train", ["backbone=mobilenet_v3_small"])
    head = head_anchors(config, meta_network(config))
    assert head is not None
    reach, found = check_reach(BoxTable(make_annotations(boxes), "train"), head)
    assert reach is not None and reach.mean_recall == 0 and [f.cause for f in found] == ["out_of_reach"]
    assert reach.better_finer is not None
    keys = anchor_keys(reach.better_finer, head.finer_taps)
    config = compose_config("train", ["backbone=mobilenet_v3_small", *keys])
    better = head_anchors(config, meta_network(config))
    assert better is not None
    again, _ = check_reach(BoxTable(make_annotations(boxes), "train"), better, quick=True)
    assert (
        again is not None and again.mean_recall == pytest.approx(reach.better_finer.recall) and again.mean_recall > 0.5
    )


def test_the_faults_that_the_benchmark_plants_are_found(tmp_path: Path) -> None:
    planted = write(tmp_path / "train.json", 200, 5000)
    reader = coco_boxes({"root": tmp_path, "images": None}, "train")
    report = check_annotations({"train": reader.truth}, {"train": "train"}, None)
    counts = {cause: len(group) for cause, group in by_cause(report.findings).items()}
    assert set(planted) == set(FAULTS) and min(planted.values()) > 0
    assert planted == {cause: counts[cause] for cause in planted}


def saved(image: Image.Image, quality: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """The picture after it went through a JPEG."""
    buffer = io.BytesIO()
    (image if size is None else image.resize(size)).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def test_pictures_saved_anew_or_resized_are_alike_and_others_are_not() -> None:
    images = [picture(seed, (320, 240)) for seed in range(30)]
    arrays = [np.array(image) for image in images]
    again = [saved(images[0], 60), saved(images[1], 90, (160, 120)), saved(images[2], 80, (400, 300))]
    prints = np.stack([fingerprint(array) for array in [*arrays, *again]])
    assert sorted(map(tuple, likely_pairs(prints).tolist())) == [(0, 30), (1, 31), (2, 32)]
    assert [how_alike(arrays[i], again[i]) for i in range(3)] == ["nearly identical"] * 3
    assert how_alike(arrays[0], arrays[0].copy()) == "identical"
    assert how_alike(arrays[0], arrays[1]) is None


def test_likely_pairs_are_those_of_brute_force() -> None:
    random = np.random.default_rng(1)
    base = random.integers(0, 250, (40, 192))
    prints = np.concatenate([base, (base + random.integers(-3, 4, base.shape)).clip(0, 255), base[:5]]).astype(np.uint8)
    apart = np.abs(prints[:, None].astype(int) - prints[None]).mean(axis=2)
    expected = {tuple(pair) for pair in np.argwhere(np.triu(apart <= 2.5, k=1)).tolist()}
    found = {tuple(sorted(pair)) for pair in likely_pairs(prints).tolist()}
    assert found == expected and len(expected) >= 45


def test_no_pictures_give_no_pairs() -> None:
    for count in (0, 1):
        assert likely_pairs(np.zeros((count, 192), dtype=np.uint8)).shape == (0, 2)


def test_a_picture_is_blank_only_if_every_pixel_is_the_same() -> None:
    image = np.full((300, 300, 3), 7, dtype=np.uint8)
    assert is_blank(image, fingerprint(image))
    image[1, 1] = 8  # a pixel that the fingerprint does not look at
    assert not is_blank(image, fingerprint(image))


def test_any_number_of_threads_finds_the_same(tmp_path: Path) -> None:
    for number in range(20):
        save(picture(number), tmp_path / "train" / "cat" / f"{number}.jpg")
    cut(tmp_path / "train" / "cat" / "4.jpg")
    reader = image_folder(root=tmp_path, split="train")
    one, three = (look_at_all(reader, "train", workers=workers, progress=False) for workers in (0, 3))
    assert one.findings == three.findings and len(one.findings) == 1
    assert np.array_equal(one.fingerprints, three.fingerprints) and np.array_equal(one.printed, three.printed)
    assert len(one.printed) == 19 and one.files == three.files
