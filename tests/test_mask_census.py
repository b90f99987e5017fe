"""What masks hold against what their classes say: what training and ``evaluate predictions=`` report, and refuse."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mbvision.commands import evaluate, run, train
from mbvision.commands.label_checks import check_labels, warn_of_labels
from mbvision.data import mask_census
from mbvision.data.mask_census import MaskCensus, take_census
from mbvision.data.mask_pixels import read_mask_pixels
from mbvision.data.masks import MaskReader, mask_scheme
from mbvision.data.masks_folder import masks_folder
from mbvision.errors import AnnotationError, DataError, MaskColourError

NAMES = ["background", "car", "grass"]
LABELS = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2]], dtype=np.uint8)
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], dtype=np.uint8)
CONFIG = {
    "data": {"sets": None, "train_split": "train", "val_split": "val"},
    "heads": {"segmentation": {}},
    "tasks": {"segmentation": {"weight": 1.0}},
    "trainer": {"limit_val_batches": 1.0},
}


def _set(root: Path, save: Callable[[np.ndarray, Path], object], *, count: int = 3, classes: object = NAMES) -> Path:
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (6, 2)).save(root / f"images/{split}/{number}.png")
            save(LABELS, root / f"masks/{split}/{number}.png")
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def _gray(values: np.ndarray, path: Path) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


def _palette(values: np.ndarray, colours: np.ndarray, path: Path) -> None:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(colours.astype(np.uint8).tobytes())
    image.save(path)


def _checked(root: Path) -> MaskReader:
    reader = masks_folder(root=root, split="train")
    check_labels(CONFIG, reader, masks_folder(root=root, split="val"))
    return reader


@pytest.mark.parametrize(
    ("save", "names", "fault"),
    [
        (lambda x, p: _gray((x > 0) * 255, p), ["cell"], r"'cell' alone.*background too; 50\.0% .* ignored"),
        (lambda x, p: _gray(x * 0, p), ["cell"], r"'cell' alone.*name the background too$"),
        (lambda x, p: _gray((x > 0) * 255, p), NAMES, r"'background' is the only class in the 3 .*if they are 'car'"),
        (lambda x, p: _gray(x * 0 + 2, p), NAMES, r"'grass' is the only class in the 3 masks"),
        (lambda x, p: _gray(x * 0 + 255, p), NAMES, r"no pixel of a class: all pixels of the 3 masks are ignored"),
    ],
    ids=["one class, black and white", "one class", "three names, black and white", "one class found", "void"],
)  # fmt: skip
def test_masks_of_fewer_than_two_classes_are_refused(
    tmp_path: Path, save: Callable[[np.ndarray, Path], object], names: list[str], fault: str
) -> None:
    root = _set(tmp_path, save, classes=names)
    with pytest.raises(DataError, match=r"^data\.train_split=train: .*" + fault):
        _checked(root)
    good = masks_folder(root=_set(tmp_path / "good", _gray), split="train")
    bad = masks_folder(root=root, split="val")
    with pytest.raises(DataError, match=r"^data\.val_split=val: .*trainer\.limit_val_batches=0"):
        check_labels(CONFIG, good, bad)
    check_labels({**CONFIG, "trainer": {"limit_val_batches": 0}}, good, bad)
    without = {**CONFIG, "tasks": {"segmentation": {"weight": 0}}}
    check_labels(without, bad, good)  # a teacher's outputs are learnt


def test_the_command_refuses_them_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _set(tmp_path, lambda x, p: _gray((x > 0) * 255, p))
    arguments = ["task=lraspp", "backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=64"]
    data = ["data=masks_folder", f"data.root={root}", f"run_dir={tmp_path}/run", "trainer=debug", "loader.workers=0"]
    assert run(train.main, [*arguments, *data]) == 2
    assert "error: data.train_split=train: 'background' is the only class" in capsys.readouterr().err


def test_a_large_split_is_sampled_and_read_whole_only_where_classes_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_census, "SAMPLE", 3)
    root = _set(tmp_path, _gray, count=9)
    census = take_census(masks_folder(root=root, split="train"), "here")
    assert (census.seen, census.total) == (3, 9) and not census.faults() and not census.remarks()
    assert census.summary() == "3 of 9 masks looked at: 3 of 3 classes, 0.0% of the pixels ignored"
    for number in range(9):
        _gray(LABELS * (number == 5), root / f"masks/train/{number}.png")
    census = take_census(masks_folder(root=root, split="train"), "here")  # looks at 0, 4, 8, then 1, 2, 3, 5
    assert census.seen == 7 and not census.faults()


def test_classes_that_no_mask_has_and_void_masks_are_counted(tmp_path: Path) -> None:
    root = _set(tmp_path, lambda x, p: _gray(np.where(x == 2, 255, x), p))
    _gray(LABELS * 0 + 255, root / "masks/train/0.png")
    remarks = take_census(masks_folder(root=root, split="train"), "here").remarks()
    assert len(remarks) == 2 and remarks[1] == "masks ignored as a whole: 1 of 3"
    assert remarks[0].startswith("classes in none of the 3 masks: 1 (grass); ") and remarks[0].endswith("store 2 there")


def test_palettes_in_another_order_are_read_by_the_colours_of_the_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order = np.array([2, 0, 1])  # grass first
    save = lambda x, p: _palette(np.argsort(order)[x], COLOURS[order], p)  # noqa: E731
    table = {"classes": NAMES, "palette": COLOURS.tolist()}
    with caplog.at_level(logging.WARNING):
        reader = _checked(_set(tmp_path / "table", save, classes=table))
    np.testing.assert_array_equal(reader.mask(0), LABELS)
    assert "in another order: 3 of 3 masks" in caplog.text and "they are read by colour" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        reader = _checked(_set(tmp_path / "indices", lambda x, p: _palette(x, COLOURS, p), classes=table))
        _checked(_set(tmp_path / "own", lambda x, p: _palette(x, COLOURS * 0 + 9, p), classes=table))
    np.testing.assert_array_equal(reader.mask(0), LABELS)
    assert not caplog.text
    (tmp_path / "table/classes.json").write_text(
        json.dumps({"classes": NAMES, "palette": [[0, 0, 0], [255, 0, 0], [9, 9, 9]]})
    )
    with pytest.raises(MaskColourError, match=r"colours that no class has: RGB \(0, 255, 0\) \(2 pixels\)"):
        masks_folder(root=tmp_path / "table", split="train").mask(0)


def test_an_index_of_two_colours_is_reported_where_no_table_says_more(tmp_path: Path) -> None:
    root = _set(tmp_path, lambda x, p: _palette(x, COLOURS * 0.9, p))
    _palette(LABELS, COLOURS[[0, 2, 1]] * 0.9, root / "masks/train/2.png")
    (remark,) = take_census(masks_folder(root=root, split="train"), "here").remarks()
    assert remark.startswith("index 1 has the colour (229, 0, 0) in ") and "2.png: they are read by index" in remark


def test_masks_in_colours_ask_for_the_table_that_they_hold(tmp_path: Path) -> None:
    voc = np.array([(0, 0, 0), (0, 128, 0), (128, 0, 0)], dtype=np.uint8)  # Pascal VOC's, in another order
    root = _set(tmp_path, lambda x, p: Image.fromarray(voc[x]).save(p))
    with pytest.raises(MaskColourError, match=r"train \(3 masks\): masks in RGB .*Write classes\.json as") as caught:
        _checked(root)
    text = str(caught.value)
    table = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert table == {"classes": NAMES, "palette": [[0, 0, 0], [0, 128, 0], [128, 0, 0]]}
    (root / "classes.json").write_text(json.dumps(table))
    np.testing.assert_array_equal(_checked(root).mask(0), LABELS)


def test_masks_of_2_and_4_bits_hold_what_was_drawn_and_colours_of_16_are_refused(tmp_path: Path) -> None:
    for bits in (2, 4):
        Image.fromarray(LABELS).save(tmp_path / "few.png", bits=bits)
        np.testing.assert_array_equal(read_mask_pixels(tmp_path / "few.png").values, LABELS)
    for suffix in ("png", "tif"):
        deep = tmp_path / f"deep.{suffix}"
        cv2.imwrite(str(deep), np.repeat(LABELS[..., None], 3, axis=2).astype(np.uint16))
        with pytest.raises(AnnotationError, match=rf"deep\.{suffix}: 16 bits each .* save one channel"):
            read_mask_pixels(deep)


def test_values_of_no_class_in_predictions_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _set(tmp_path / "truth", _gray)
    (tmp_path / "found").mkdir()
    for number in range(3):
        _gray(LABELS * 127, tmp_path / f"found/{number}.png")
    arguments = [f"predictions={tmp_path}/found", "data=masks_folder", f"data.root={root}", f"output={tmp_path}/m.json"]
    with caplog.at_level(logging.WARNING):
        assert run(evaluate.main, arguments) == 0
    assert (
        "values of no class, which count as missed: 127 (12 pixels), 254 (6 pixels); they look like class"
        in caplog.text
    )
    assert "times 127: divide by it; classes are stored as 0, 1, 2" in caplog.text
    assert json.loads((tmp_path / "m.json").read_text())["pixel_accuracy"] == 0.5


def test_a_prediction_that_marks_what_the_truth_ignores_is_not_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _set(tmp_path, lambda x, p: _gray(np.where(x == 2, 255, x), p), classes=NAMES[:2])
    with caplog.at_level(logging.WARNING):
        assert run(evaluate.main, [f"predictions={root}/masks/val", "data=masks_folder", f"data.root={root}"]) == 0
    assert not caplog.text


def test_an_evaluation_by_one_class_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = masks_folder(root=_set(tmp_path, lambda x, p: _gray(x * 0, p)), split="val")
    with caplog.at_level(logging.WARNING):
        warn_of_labels(CONFIG["data"], reader, ["segmentation"])
    assert "data.val_split=val: 'background' is the only class in the 3 masks" in caplog.text


def test_a_census_of_nothing_has_no_class() -> None:
    census = MaskCensus(mask_scheme(NAMES, source="test"), 0)
    assert census.faults() == ["no pixel of a class: all pixels of the 0 masks are ignored"]
