"""Tints, legends and confusion plots show what they should."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mbvision.draw import class_colour
from mbvision.draw_masks import legend, overlay, palette, plot_confusion, with_legend

COLOURS = ((200, 0, 0), (0, 100, 0), (0, 0, 50))


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_each_class_is_tinted_in_its_colour_on_a_copy() -> None:
    image, labels = picture(), np.zeros((20, 30), dtype=np.uint8)
    labels[5:10], labels[10:] = 1, 2
    before = image.copy()
    tinted = overlay(image, labels, COLOURS, alpha=0.25)
    expected = 0.75 * image + 0.25 * np.array(COLOURS)[labels]
    assert np.abs(tinted - expected).max() <= 0.51
    assert np.array_equal(image, before)


def test_ignored_pixels_labels_without_a_colour_and_the_background_stay() -> None:
    image, labels = picture(), np.zeros((20, 30), dtype=np.uint8)
    labels[5:10], labels[10:15], labels[15:] = 255, 7, 2
    tinted = overlay(image, labels, COLOURS, background=0)
    assert np.array_equal(tinted[:15], image[:15])
    assert np.abs(tinted[15:] - (0.5 * image[15:] + 0.5 * np.array(COLOURS[2]))).max() <= 0.51
    assert not np.array_equal(overlay(image, labels, COLOURS)[:5], image[:5])


def test_alpha_goes_from_the_picture_to_the_colours() -> None:
    image, labels = picture(), np.ones((20, 30), dtype=np.uint8)
    assert np.array_equal(overlay(image, labels, COLOURS, alpha=0), image)
    assert (overlay(image, labels, COLOURS, alpha=1) == COLOURS[1]).all()


def test_a_part_of_a_picture_can_be_tinted() -> None:
    image, labels = picture()[2:9, 3:17], np.full((40, 40), 2, dtype=np.uint8)[2:9, 3:17]
    assert (overlay(image, labels, COLOURS, alpha=1) == COLOURS[2]).all()


def test_colours_are_those_of_boxes_for_any_number_of_classes() -> None:
    assert palette(2) == (class_colour(0), class_colour(1))
    assert len(set(palette(255))) >= 150


def test_the_legend_has_the_colours_of_the_classes_that_are_there_alone() -> None:
    strip = legend(["a", "b", "c"], COLOURS, np.array([2, 0, 255, 0]), width=100)
    seen = {tuple(colour) for colour in strip.reshape(-1, 3).tolist()}
    assert COLOURS[0] in seen and COLOURS[2] in seen and COLOURS[1] not in seen
    assert strip.shape[1:] == (100, 3) and strip.dtype == np.uint8


@pytest.mark.parametrize("width", [8, 20, 60, 200, 2000])
def test_the_legend_keeps_its_width_and_takes_the_lines_it_needs(width: int) -> None:
    names = ["a very long name of a class"] * 19
    strip = legend(names, palette(19), range(19), width=width)
    assert strip.shape[1] == width
    assert strip.shape[0] >= legend(names, palette(19), range(19), width=4000).shape[0]
    assert width < 20 or (strip[:, -1] == 255).all(), "nothing runs over the edge"


def test_no_class_gives_an_empty_legend() -> None:
    assert legend(["a"], COLOURS[:1], [255], width=50).shape == (0, 50, 3)


def test_a_legend_in_a_picture_keeps_its_size_and_upper_half() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    before = image.copy()
    for count in (0, 1, 19):
        strip = legend(["name"] * 19, palette(19), range(count), width=60)
        drawn = with_legend(image, strip)
        covered = min(count, 1) * 18  # one line fits into half of 50 pixels
        assert drawn.shape == image.shape and np.array_equal(drawn[: 50 - covered], image[: 50 - covered])
        assert covered == 0 or drawn[-covered:].mean() > image[-covered:].mean() + 20
    assert np.array_equal(image, before)
    assert with_legend(image[:10], strip).shape == (10, 60, 3)


@pytest.mark.parametrize("classes", [2, 100])
def test_a_confusion_plot_is_written_for_few_and_many_classes(tmp_path: Path, classes: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 20, (classes, classes + 1)) + 500 * np.eye(classes, classes + 1, dtype=np.int64)
    matrix[1] = 0
    plot_confusion(matrix, [f"class {n}" for n in range(classes)], tmp_path / "new" / "confusion.png")
    image = cv2.imread(str(tmp_path / "new" / "confusion.png"))
    assert image is not None and image.std() > 5 and min(image.shape[:2]) >= 350


def test_an_empty_matrix_is_plotted_without_a_warning(tmp_path: Path) -> None:
    plot_confusion(np.zeros((3, 4), dtype=np.int64), ["a", "b", "c"], tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000
