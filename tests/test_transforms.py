"""The training transform keeps boxes where the picture's things are; the evaluation's maps back exactly."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from mbvision.data.transforms.classification import classification_train
from mbvision.data.transforms.colour import ColourDistortion
from mbvision.data.transforms.evaluation import ResizeTransform
from mbvision.data.transforms.faces import faces_train
from mbvision.data.transforms.fit import Fit
from mbvision.data.transforms.pipeline import TrainTransform
from mbvision.data.transforms.ssd import SSDCrop, _good_crops, ssd_train
from mbvision.data.transforms.window import FILL
from mbvision.errors import ConfigError
from mbvision.structures import Geometry, Sample, Target

RED, BLUE = (250, 10, 10), (10, 10, 250)


def make_sample(
    height: int = 60, width: int = 80, boxes: list[list[float]] | None = None, labels: list[int] | None = None
) -> Sample:
    """A grey picture whose boxes are filled, label 0 red and label 1 blue."""
    boxes = [] if boxes is None else boxes
    labels = [0] * len(boxes) if labels is None else labels
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        image[round(y1) : round(y2), round(x1) : round(x2)] = (RED, BLUE)[label]
    target = Target(
        image_id=3,
        geometry=Geometry(original=(height, width)),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        box_labels=torch.tensor(labels, dtype=torch.int64),
    )
    return Sample(image=image, target=target, path="picture.jpg")


def random_boxes(random: np.random.Generator, height: int, width: int, count: int) -> list[list[float]]:
    corners = np.sort(random.uniform(0, 1, (count, 2, 2)), axis=1) * (width, height)
    return corners.reshape(-1, 4).astype(np.float32).tolist()


def extent(image: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """The bounding box of the pixels of about this colour."""
    rows, columns = np.nonzero((np.abs(image.astype(int) - colour) < 60).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


PLAIN = {"min_side": 1.0, "zoom_out": 0.0, "flip": 0.0, "colour": False}


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "native"])
@pytest.mark.parametrize(("height", "width"), [(60, 80), (100, 300), (301, 97), (20, 25)])
def test_without_augmentation_every_fit_is_the_evaluations(fit: Fit, height: int, width: int) -> None:
    whole = [0.0, 0.0, float(width), float(height)]
    sample = make_sample(height, width, [[width / 10, height / 6, width / 2, height / 1.2], whole], [1, 0])
    evaluated = ResizeTransform(size=(32, 40), fit=fit)(sample, 0)
    frame = {"min_side": 1.0, "max_side": 1.0, "shift": 0.0, "flip": 0.0, "colour": False}
    for transform in (ssd_train(size=(32, 40), fit=fit, **PLAIN), faces_train(size=(32, 40), fit=fit, **frame)):
        trained = transform(sample, 0)
        np.testing.assert_array_equal(trained.image, evaluated.image)
        # Evaluation's boxes follow the whole pixels that its image is rounded to.
        torch.testing.assert_close(trained.target.boxes, evaluated.target.boxes, rtol=0, atol=0.5)
        assert trained.target.box_labels is not None and trained.target.box_labels.tolist() == [1, 0]


@pytest.mark.parametrize(("fit", "squeezed"), [("stretch", True), ("letterbox", False), ("native", False)])
def test_a_square_has_one_shape_in_training_and_in_evaluation(fit: Fit, squeezed: bool) -> None:
    sample = make_sample(100, 300, [[130.0, 30.0, 170.0, 70.0]])
    evaluated = ResizeTransform(size=(120, 120), fit=fit)(sample, 0).target.boxes
    assert evaluated is not None
    expected = shape(evaluated)
    assert (expected < 0.4) is squeezed
    for transform, spread in (
        (ssd_train(size=(120, 120), fit=fit, min_side=1.0, colour=False), 1.01),  # zoomed out alone
        (ssd_train(size=(120, 120), fit=fit, zoom_out=0.0, colour=False), 2.05 if squeezed else 1.01),
        (faces_train(size=(120, 120), fit=fit, colour=False), 1.01),
        (classification_train(size=(120, 120), fit=fit), 1.4 if squeezed else 1.01),
    ):
        seen = []
        for seed in range(60):
            boxes = transform(sample, seed).target.boxes
            if boxes is not None and len(boxes) and boxes.min() > 0 and boxes.max() < 120:  # not cut by the window
                seen.append(shape(boxes))
        assert len(seen) > 5
        assert expected / spread < np.exp(np.mean(np.log(seen))) < expected * spread
        assert min(seen) > expected / spread * 0.99 and max(seen) < expected * spread * 1.01


def shape(boxes: Tensor) -> float:
    """Width by height of the first box."""
    sides = boxes[0, 2:] - boxes[0, :2]
    return float(sides[0] / sides[1])


def test_boxes_cut_off_by_a_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"transform.train.fit=crop: .* say stretch, letterbox or native"):
        ssd_train(size=(32, 32), fit="crop")


def test_a_flip_mirrors_picture_and_boxes() -> None:
    sample = make_sample(boxes=[[8.0, 10.0, 40.0, 50.0]])
    plain = ssd_train(size=(60, 80), **PLAIN)(sample, 0)
    mirrored = ssd_train(size=(60, 80), **{**PLAIN, "flip": 1.0})(sample, 0)
    np.testing.assert_array_equal(mirrored.image, plain.image[:, ::-1])
    assert mirrored.target.boxes is not None
    torch.testing.assert_close(mirrored.target.boxes, torch.tensor([[40.0, 10.0, 72.0, 50.0]]))


def test_boxes_follow_the_pixels_through_crops_zooms_and_flips() -> None:
    sample = make_sample(240, 320, [[40.0, 60.0, 150.0, 200.0], [200.0, 20.0, 300.0, 120.0]], [0, 1])
    transform = ssd_train(size=(256, 256), colour=False)
    checked = 0
    for seed in range(60):
        result = transform(sample, seed)
        boxes, labels = result.target.boxes, result.target.box_labels
        assert boxes is not None and labels is not None
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            np.testing.assert_allclose(extent(result.image, (RED, BLUE)[label]), box, atol=2.5)
            checked += 1
    assert checked > 60


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    count=st.integers(0, 5),
)
def test_boxes_stay_inside_and_labels_with_them_for_any_picture(seed: int, height: int, width: int, count: int) -> None:
    random = np.random.default_rng(seed)
    sample = make_sample(height, width, random_boxes(random, height, width, count), [i % 2 for i in range(count)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ssd_train(size=(24, 40))(sample, seed)
    boxes, labels = result.target.boxes, result.target.box_labels
    assert result.image.shape == (24, 40, 3) and result.image.dtype == np.uint8
    assert boxes is not None and labels is not None and boxes.dtype == torch.float32 and labels.dtype == torch.int64
    assert len(boxes) == len(labels) <= count
    assert (boxes >= 0).all() and (boxes <= torch.tensor([40.0, 24.0, 40.0, 24.0])).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 1).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4000), (4000, 1), (2, 3)])
def test_the_smallest_and_longest_pictures_go_through_every_transform(height: int, width: int) -> None:
    sample = make_sample(height, width, [[0.0, 0.0, float(width), float(height)]])
    transform = ssd_train(size=(32, 32), max_zoom=64.0)
    for seed in range(300):  # the zoom makes some of them smaller than a pixel
        assert transform(sample, seed).image.shape == (32, 32, 3)
    assert ResizeTransform(size=(32, 32))(sample, 0).image.shape == (32, 32, 3)


def test_the_same_seed_gives_the_same_sample_whatever_came_before() -> None:
    sample = make_sample(boxes=[[8.0, 10.0, 40.0, 50.0]])
    transform = ssd_train(size=(32, 32))
    first = [transform(sample, seed) for seed in range(8)]
    fresh = ssd_train(size=(32, 32))
    for seed in reversed(range(8)):
        again = fresh(sample, seed)
        np.testing.assert_array_equal(again.image, first[seed].image)
        assert torch.equal(again.target.boxes, first[seed].target.boxes)  # type: ignore[arg-type]  # it has boxes
    assert len({result.image.tobytes() for result in first}) == 8


def test_no_boxes_stay_no_boxes_and_no_annotation_stays_none() -> None:
    empty = ssd_train(size=(32, 32))(make_sample(), 1).target
    assert empty.boxes is not None and empty.boxes.shape == (0, 4) and empty.box_labels is not None
    sample = make_sample()
    bare = Sample(image=sample.image, target=Target(image_id=1, geometry=sample.target.geometry))
    for transform in (ssd_train(size=(32, 32)), ResizeTransform(size=(32, 32))):
        assert transform(bare, 1).target.boxes is None


def test_good_crops_agree_with_a_loop_over_crops_and_boxes() -> None:
    random = np.random.default_rng(5)
    for _ in range(40):
        boxes = np.array(random_boxes(random, 1, 1, 4))
        crops = np.array(random_boxes(random, 1, 1, 30))
        minimum = random.uniform(0, 0.5)
        iou = box_iou(torch.from_numpy(crops), torch.from_numpy(boxes)).numpy()
        expected = []
        for crop, overlaps in zip(crops, iou, strict=True):
            centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes]
            held = [crop[0] < x < crop[2] and crop[1] < y < crop[3] for x, y in centres]
            expected.append(any(o >= minimum for o, h in zip(overlaps, held, strict=True) if h))
        assert _good_crops(crops, boxes, minimum).tolist() == expected


def test_drawn_crops_keep_boxes_by_centre_and_respect_the_minimum_overlap() -> None:
    random = np.random.default_rng(7)
    cropped = 0
    for seed in range(150):
        crop = SSDCrop(size=(32, 32), min_ious=(0.5,), zoom_out=0.0)
        crop.set_random_seed(seed)
        boxes = np.array(random_boxes(random, 1, 1, 3))
        window = crop.draw((60, 80), boxes)
        kept = crop.apply_to_bboxes(np.c_[boxes, np.arange(3)], window)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        held = ((centres > window[:2]) & (centres < window[2:])).all(axis=1)
        assert kept[:, 4].tolist() == np.flatnonzero(held).tolist()
        if not np.array_equal(window, [0, 0, 1, 1]):
            cropped += 1
            assert min(window[2:] - window[:2]) >= 0.3 and (window >= 0).all() and (window <= 1).all()
            assert 0.5 < np.divide(*(window[2:] - window[:2])) < 2
            overlaps = box_iou(torch.from_numpy(window[None]), torch.from_numpy(boxes))[0].numpy()
            assert (overlaps[held] >= 0.5).any()
    assert cropped > 15


def test_zooming_out_shrinks_the_picture_into_a_filled_canvas() -> None:
    sample = make_sample(60, 80, [[0.0, 0.0, 80.0, 60.0]])
    crop = SSDCrop(size=(64, 64), min_ious=(1.0,), zoom_out=1.0)
    result = TrainTransform(steps=[crop])(sample, 4)
    assert result.target.boxes is not None
    x1, y1, x2, y2 = result.target.boxes[0].tolist()
    assert 16 <= x2 - x1 < 64 and (x2 - x1) == pytest.approx(y2 - y1, abs=1e-4)
    np.testing.assert_allclose(extent(result.image, RED), [x1, y1, x2, y2], atol=1.01)
    outside = np.ones((64, 64), dtype=bool)
    outside[int(y1) : int(y2) + 2, int(x1) : int(x2) + 2] = False
    outside[max(int(y1) - 1, 0) : int(y2) + 2, max(int(x1) - 1, 0) : int(x2) + 2] = False
    assert (result.image[outside] == FILL).all()


def test_colours_without_strength_are_the_identity_and_brightness_is_an_offset() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    none = ColourDistortion(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    none.set_random_seed(0)
    np.testing.assert_array_equal(none.apply(image, **none.get_params()), image)
    offsets = set()
    for seed in range(30):
        bright = ColourDistortion(brightness=0.125, contrast=0.0, saturation=0.0, hue=0.0)
        bright.set_random_seed(seed)
        matrix = bright.get_params()["matrix"]
        np.testing.assert_allclose(matrix[:, :3], np.eye(3), atol=1e-5)
        assert np.ptp(matrix[:, 3]) == 0 and abs(matrix[0, 3]) <= 32
        offsets.add(float(matrix[0, 3]))
    assert 0.0 in offsets and len(offsets) > 5


def test_grey_stays_grey_under_any_saturation_and_hue() -> None:
    grey = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    for seed in range(20):
        colour = ColourDistortion(brightness=0.0, contrast=0.0)
        colour.set_random_seed(seed)
        assert np.abs(colour.apply(grey, **colour.get_params()).astype(int) - grey).max() <= 1


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_the_geometry_of_the_resize_maps_boxes_back(height: int, width: int, seed: int) -> None:
    boxes = random_boxes(np.random.default_rng(seed), height, width, 3)
    image = (
        np.zeros((height, width, 3), dtype=np.uint8)
        if height * width < 10**6
        else np.empty((height, width, 3), np.uint8)
    )
    target = Target(
        image_id=1,
        geometry=Geometry(original=(height, width)),
        boxes=torch.tensor(boxes),
        box_labels=torch.zeros(3, dtype=torch.int64),
    )
    result = ResizeTransform(size=(32, 48))(Sample(image=image, target=target), 0).target
    assert result.boxes is not None
    back = result.geometry.to_original(result.boxes)
    torch.testing.assert_close(
        back, torch.tensor(boxes, dtype=torch.float64), rtol=1e-6, atol=1e-6 * max(height, width)
    )
    whole = result.geometry.to_original(torch.tensor([[0.0, 0.0, 48.0, 32.0]]))
    torch.testing.assert_close(whole, torch.tensor([[0, 0, width, height]], dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_large_picture_is_averaged_not_sampled() -> None:
    board = np.indices((640, 640)).sum(axis=0) % 2 * 255
    image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    sample = Sample(image=image, target=Target(image_id=1, geometry=Geometry(original=(640, 640))))
    result = ResizeTransform(size=(64, 64))(sample, 0).image.astype(int)
    assert np.abs(result - 128).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip": 1.5}, "transform.train.flip=1.5"),
        ({"zoom_out": -1.0}, "transform.train.zoom_out=-1.0"),
        ({"max_zoom": 0.5}, "max_zoom=0.5"),
        ({"min_side": 0.0}, "min_side=0.0"),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ssd_train(size=(32, 32), **arguments)
