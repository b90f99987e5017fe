"""Drawing marks what it should, where it should, and leaves its input alone."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mbvision.draw import class_colour, draw_boxes, grid, plot_curves, plot_precision_recall, save_image, side_by_side


def black(height: int = 100, width: int = 150) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def test_a_box_is_drawn_in_its_class_colour_on_a_copy() -> None:
    image = black()
    drawn = draw_boxes(image, np.array([[20.0, 30.0, 80.0, 90.0]]), np.array([1]), ["a", "b"])
    assert not image.any()
    assert tuple(drawn[89, 50]) == class_colour(1) and tuple(drawn[60, 20]) == class_colour(1)
    assert not drawn[60, 50].any(), "the inside stays free"


def test_boxes_at_and_over_the_edge_do_not_fail() -> None:
    boxes = np.array([[0.0, 0.0, 150.0, 100.0], [-5.0, -5.0, 3.0, 3.0], [140.0, 90.0, 170.0, 130.0]])
    drawn = draw_boxes(black(), boxes, np.array([0, 1, 2]), ["a", "b", "c"], scores=np.array([0.9, 0.5, 0.1]))
    assert drawn.shape == (100, 150, 3)


def test_no_boxes_change_nothing() -> None:
    assert np.array_equal(draw_boxes(black(), np.zeros((0, 4)), np.zeros(0, dtype=int), ["a"]), black())


def test_colours_of_many_classes_differ() -> None:
    assert len({class_colour(label) for label in range(80)}) >= 75


def test_grid_and_side_by_side_hold_every_picture() -> None:
    pictures = [black(10, 20) + value for value in (50, 100, 150)]
    sheet = grid(pictures, columns=2)
    assert {50, 100, 150} <= set(np.unique(sheet).tolist())
    both = side_by_side(pictures[0], pictures[1], ("left", "right"))
    assert both.shape[1] >= 40 and {50, 100} <= set(np.unique(both[24:]).tolist())
    uneven = side_by_side(pictures[0], black(30, 9) + 100, ("left", "right"))
    assert (uneven[24:34, :20] == 50).all() and (uneven[24:, 26:35] == 100).all()
    assert (uneven[34:, :20] == 255).all() and (uneven[24:, 35:] == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_saved_picture_reads_back_in_the_same_colours(tmp_path: Path, suffix: str) -> None:
    image = black()
    image[:, :, 0] = 200
    save_image(tmp_path / f"new/a{suffix}", image)
    again = read(tmp_path / f"new/a{suffix}")
    assert abs(again.astype(int) - image).max() <= 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"a{suffix}"]


def test_plots_are_written(tmp_path: Path) -> None:
    plot_curves({"train/a/box": [(1, 2.0), (2, 1.0)], "val/a/AP": [(2, 0.5)]}, tmp_path / "curves.png")
    plot_precision_recall({"a": np.linspace(1, 0, 101), "none": np.full(101, -1.0)}, tmp_path / "pr.png")
    for name in ("curves.png", "pr.png"):
        assert read(tmp_path / name).std() > 5
