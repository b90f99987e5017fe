"""Labels at full size are those of upsampled logits, whatever the sizes and wherever the picture lies in the input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from mbvision import masks
from mbvision.masks import upsampled_labels
from mbvision.structures import Geometry, Segmentation

Size = tuple[int, int]


def random_logits(classes: int, cells: Size, seed: int = 0) -> torch.Tensor:
    return torch.randn(classes, *cells, generator=torch.Generator().manual_seed(seed))


def stretched(original: Size, input_size: Size) -> Geometry:
    return Geometry(original=original, scale=(input_size[1] / original[1], input_size[0] / original[0]))


def sampled(logits: torch.Tensor, input_size: Size, geometry: Geometry) -> np.ndarray:
    """Brute force in float64: the four neighbours of every pixel's centre, weighted."""
    values = logits.double().numpy()
    found = []
    for axis in (0, 1):
        cells, scale, offset = values.shape[axis + 1], geometry.scale[1 - axis], geometry.offset[1 - axis]
        centres = ((np.arange(geometry.original[axis]) + 0.5) * scale + offset) * cells / input_size[axis] - 0.5
        centres = centres.clip(0, cells - 1)
        low = np.floor(centres).astype(int)
        found.append((low, np.minimum(low + 1, cells - 1), centres - low))
    (top, bottom, down), (left, right, across) = found
    down = down[:, None]
    upper = values[:, top][:, :, left] * (1 - across) + values[:, top][:, :, right] * across
    lower = values[:, bottom][:, :, left] * (1 - across) + values[:, bottom][:, :, right] * across
    return np.asarray(upper * (1 - down) + lower * down)


def assert_best(labels: np.ndarray, values: np.ndarray) -> None:
    """Every label is the best class of its pixel, or within rounding of the best."""
    assert labels.dtype == np.uint8 and labels.shape == values.shape[1:] and labels.flags.c_contiguous
    chosen = np.take_along_axis(values, labels[None].astype(int), axis=0)[0]
    assert (values.max(axis=0) - chosen).max() <= 2e-5
    assert (labels != values.argmax(axis=0)).mean() <= 1e-3


@pytest.mark.parametrize(
    ("classes", "cells", "original"),
    [(21, (65, 65), (480, 640)), (21, (40, 40), (480, 640)), (19, (32, 64), (256, 512)), (3, (50, 30), (20, 13))],
)
def test_stretched_pictures_get_the_labels_of_interpolate_and_argmax(classes: int, cells: Size, original: Size) -> None:
    logits = random_logits(classes, cells)
    size = (8 * cells[0], 8 * cells[1])
    labels = upsampled_labels(Segmentation(logits=logits, input_size=size), stretched(original, size))
    full = interpolate(logits[None], original, mode="bilinear", align_corners=False)[0]
    assert_best(labels, full.double().numpy())
    assert (labels != full.argmax(dim=0).numpy()).mean() <= 1e-5


@settings(deadline=None, max_examples=60)
@given(
    classes=st.integers(1, 5),
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    original=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    stride=st.sampled_from([1, 8, 16]),
    seed=st.integers(0, 99),
)
def test_any_size_is_the_brute_force_result(classes: int, cells: Size, original: Size, stride: int, seed: int) -> None:
    logits = random_logits(classes, cells, seed)
    size = (stride * cells[0], stride * cells[1])
    geometry = stretched(original, size)
    labels = upsampled_labels(Segmentation(logits=logits, input_size=size), geometry)
    values = sampled(logits, size, geometry)
    assert labels.shape == original
    chosen = np.take_along_axis(values, labels[None].astype(int), axis=0)[0]
    assert (values.max(axis=0) - chosen).max() <= 2e-5


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.0, 40.0), (37.0, 11.5), (-20.0, -7.0)])
def test_letterboxed_pictures_are_sampled_where_they_lie(offset: tuple[float, float]) -> None:
    logits = random_logits(6, (40, 40), seed=3)
    geometry = Geometry(original=(240, 427), scale=(320 / 427, 320 / 427), offset=offset)
    labels = upsampled_labels(Segmentation(logits=logits, input_size=(320, 320)), geometry)
    assert_best(labels, sampled(logits, (320, 320), geometry))


def test_padding_is_not_seen() -> None:
    logits = torch.zeros(2, 8, 8)
    logits[1, :, 4:] = 9.0
    geometry = Geometry(original=(100, 43), scale=(0.64, 0.64))
    labels = upsampled_labels(Segmentation(logits=logits, input_size=(64, 64)), geometry)
    assert not labels.any()
    whole = upsampled_labels(Segmentation(logits=logits, input_size=(64, 64)), stretched((100, 100), (64, 64)))
    assert np.array_equal(whole[:, 50:], np.ones((100, 50))) and not whole[:, :43].any()


@pytest.mark.parametrize("offset", [(0.0, 0.0), (8.0, 8.0)])
def test_other_devices_get_the_same_labels_by_bands(
    monkeypatch: pytest.MonkeyPatch, offset: tuple[float, float]
) -> None:
    monkeypatch.setattr(masks, "_BAND_VALUES", 4 * 50 * 7)  # seven rows at a time, the last ones fewer
    logits = random_logits(4, (9, 12), seed=5)
    scale, start = (96 / 50, 72 / 37), offset
    axes = [
        masks._Axis(37, 9, scale=scale[1] / 8, start=start[1] / 8),
        masks._Axis(50, 12, scale=scale[0] / 8, start=start[0] / 8),
    ]
    geometry = Geometry(original=(37, 50), scale=scale, offset=offset)
    assert_best(masks._by_bands(logits, axes), sampled(logits, (72, 96), geometry))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_labels_of_the_cpu() -> None:
    logits, geometry = random_logits(21, (65, 65)), stretched((480, 640), (520, 520))
    here = upsampled_labels(Segmentation(logits=logits, input_size=(520, 520)), geometry)
    there = upsampled_labels(Segmentation(logits=logits.cuda(), input_size=(520, 520)), geometry)
    assert (here != there).mean() <= 1e-5


def test_of_equal_classes_the_first_wins() -> None:
    logits = torch.full((5, 7, 9), 1.1)
    logits[0] = 0.3
    labels = upsampled_labels(Segmentation(logits=logits, input_size=(56, 72)), stretched((33, 41), (56, 72)))
    assert (labels == 1).all()


@pytest.mark.parametrize("cells", [(1, 1), (1, 6), (6, 1)])
@pytest.mark.parametrize("classes", [1, 3])
def test_single_cells_and_a_single_class(cells: Size, classes: int) -> None:
    logits = random_logits(classes, cells, seed=1)
    geometry = stretched((5, 17), (16, 16))
    labels = upsampled_labels(Segmentation(logits=logits, input_size=(16, 16)), geometry)
    assert_best(labels, sampled(logits, (16, 16), geometry))


def test_a_class_that_cannot_win_is_left_out_and_one_that_can_is_not() -> None:
    logits = torch.zeros(4, 6, 6)
    logits[0], logits[1] = 5.0, -5.0
    logits[2, 3, 3] = 6.0  # above class 0 in one cell only
    logits[3, 3, 3] = 4.9
    assert masks._contenders(logits.numpy()) == [0, 2]
    labels = upsampled_labels(Segmentation(logits=logits, input_size=(48, 48)), stretched((60, 60), (48, 48)))
    assert set(np.unique(labels)) == {0, 2}


def test_half_precision_and_gradients_are_taken() -> None:
    logits = random_logits(3, (4, 4)).bfloat16().requires_grad_()
    geometry = stretched((20, 20), (32, 32))
    labels = upsampled_labels(Segmentation(logits=logits, input_size=(32, 32)), geometry)
    assert_best(labels, sampled(logits.detach().float(), (32, 32), geometry))
