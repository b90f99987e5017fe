"""Masks follow their pictures through crops, zooms and flips; what is padded is ignored; letterboxes map back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mbvision.data.transforms.evaluation import NativeTransform, ResizeTransform
from mbvision.data.transforms.fit import fit_scale
from mbvision.data.transforms.segmentation import segmentation_train
from mbvision.data.transforms.ssd import ssd_train
from mbvision.data.transforms.window import FILL
from mbvision.errors import ConfigError
from mbvision.structures import IGNORE, Geometry, Sample, Target

COLOURS = np.array([[10, 10, 10], [250, 10, 10], [10, 250, 10], [10, 10, 250]], dtype=np.uint8)


def make_sample(height: int, width: int) -> Sample:
    """Four coloured quarters; the label of a pixel is the index of its colour."""
    rows, columns = np.mgrid[:height, :width]
    mask = (2 * (rows >= height // 2) + (columns >= width // 2)).astype(np.uint8)
    target = Target(image_id=1, geometry=Geometry(original=(height, width)), mask=torch.from_numpy(mask))
    return Sample(image=COLOURS[mask], target=target, path="picture.png")


def share_that_agrees(sample: Sample) -> float:
    """The share of labelled pixels whose colour, the nearest of the four, is that of their label."""
    assert sample.target.mask is not None
    mask = sample.target.mask.numpy()
    nearest = np.abs(sample.image[:, :, None].astype(int) - COLOURS).sum(axis=3).argmin(axis=2)
    return float((nearest == mask)[mask != 255].mean())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(40, 90), width=st.integers(40, 90))
def test_labels_follow_the_colours(seed: int, height: int, width: int) -> None:
    sample = make_sample(height, width)
    for transform in (
        segmentation_train(size=(48, 64), colour=False),
        segmentation_train(size=(48, 64), eval_size=[96, 64], fit="letterbox", colour=False),
        ssd_train(size=(48, 64), zoom_out=0.5, max_zoom=2.0, colour=False),
    ):
        out = transform(sample, seed)
        assert out.image.shape == (48, 64, 3) and out.target.mask is not None and out.target.mask.shape == (48, 64)
        assert out.target.boxes is None and out.target.mask.dtype == torch.uint8
        if (out.target.mask != 255).any():
            assert share_that_agrees(out) > 0.9  # pixels on the borders are blends


def test_a_small_scale_pads_with_grey_that_is_ignored() -> None:
    transform = segmentation_train(size=(64, 64), min_scale=0.5, max_scale=0.5, flip=0.0, colour=False)
    out = transform(make_sample(64, 64), 3)
    assert out.target.mask is not None
    ignored = (out.target.mask == 255).numpy()
    assert ignored.mean() == 0.75  # half the side: a quarter of the area is left
    assert (out.image[ignored] == (124, 116, 104)).all()


def test_a_large_scale_cuts_a_part_of_the_picture() -> None:
    transform = segmentation_train(size=(64, 64), min_scale=4.0, max_scale=4.0, flip=0.0, colour=False)
    seen = []
    for seed in range(20):
        out = transform(make_sample(64, 64), seed)
        assert out.target.mask is not None
        seen.append(set(out.target.mask.unique().tolist()))
    assert all(255 not in labels for labels in seen) and any(len(labels) < 4 for labels in seen)


def test_scale_one_without_flip_is_the_evaluations_picture() -> None:
    plain = {"min_scale": 1.0, "max_scale": 1.0, "flip": 0.0, "colour": False}
    for fit in ("stretch", "letterbox"):
        sample = make_sample(64, 64)
        trained = segmentation_train(size=(48, 48), fit=fit, **plain)(sample, 0)  # type: ignore[arg-type]  # parametrised, or wrong on purpose
        np.testing.assert_array_equal(trained.image, ResizeTransform(size=(48, 48), fit=fit)(sample, 0).image)  # type: ignore[arg-type]  # parametrised, or wrong on purpose


@pytest.mark.parametrize(
    ("fit", "picture", "scale"),
    [
        ("stretch", (100, 200), (0.25, 0.4)),
        ("letterbox", (100, 200), (0.25, 0.25)),
        ("letterbox", (20, 25), (2.0, 2.0)),
        ("native", (100, 200), (0.25, 0.25)),
        ("native", (20, 25), (1.0, 1.0)),
    ],
)
def test_the_scale_of_each_fit_by_hand(fit: str, picture: tuple[int, int], scale: tuple[float, float]) -> None:
    assert fit_scale(picture, (40, 50), fit) == scale  # type: ignore[arg-type]  # parametrised, or wrong on purpose


def test_a_letterboxed_picture_lies_top_left_and_its_boxes_with_it() -> None:
    sample = make_sample(50, 100)
    boxes = torch.tensor([[50.0, 25.0, 100.0, 50.0]])  # the last quarter
    target = Target(image_id=1, geometry=Geometry(original=(50, 100)), boxes=boxes, box_labels=torch.tensor([0]))
    out = ResizeTransform(size=(40, 40), fit="letterbox")(Sample(image=sample.image, target=target), 0)
    assert out.target.boxes is not None and out.target.boxes.tolist() == [[20.0, 10.0, 40.0, 20.0]]
    assert (out.image[20:] == (124, 116, 104)).all() and (out.image[10:20, 20:] == COLOURS[3]).all()
    assert torch.equal(out.target.geometry.to_original(out.target.boxes), boxes.double())


def test_evaluation_leaves_the_mask_at_the_pictures_own_size() -> None:
    sample = make_sample(50, 100)
    for transform in (ResizeTransform(size=(32, 32)), ResizeTransform(size=(32, 32), fit="native"), NativeTransform()):
        assert transform(sample, 0).target.mask is sample.target.mask


@pytest.mark.parametrize(("fit", "size"), [("stretch", (30, 40)), ("letterbox", (30, 40)), ("native", (80, 160))])
def test_a_mask_to_train_on_is_fitted_as_its_image(fit: str, size: tuple[int, int]) -> None:
    sample = make_sample(50, 100)
    out = ResizeTransform(size=size, fit=fit, fit_mask=True)(sample, 0)  # type: ignore[arg-type]  # parametrised
    assert out.target.mask is not None and sample.target.mask is not None
    mask = out.target.mask.numpy()
    assert mask.shape == size
    np.testing.assert_array_equal(mask == IGNORE, (out.image == FILL).all(axis=2))
    assert set(np.unique(mask)) - {IGNORE} == set(np.unique(sample.target.mask.numpy()))
    for label in set(np.unique(mask)) - {IGNORE}:  # but for pixels on the border between two colours
        shown = np.abs(out.image[mask == label].astype(int) - COLOURS[label]).max(axis=1) < 60
        assert shown.mean() > 0.9


def test_values_out_of_range_are_refused_by_their_key() -> None:
    with pytest.raises(ConfigError, match="min_scale=2"):
        segmentation_train(size=(32, 32), min_scale=2.0, max_scale=1.0)
    with pytest.raises(ConfigError, match=r"transform\.train\.flip=2"):
        segmentation_train(size=(32, 32), flip=2)
    with pytest.raises(ConfigError, match="fit=squash: choose stretch, letterbox, native, crop"):
        ResizeTransform(size=(32, 32), fit="squash")  # type: ignore[arg-type]  # parametrised, or wrong on purpose
