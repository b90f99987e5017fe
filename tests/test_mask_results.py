"""Masks are written as the servers want them, and what others wrote is scored as the official tools do."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.commands.score_masks import score_masks
from mbvision.data.cityscapes import SCHEME as CITYSCAPES
from mbvision.data.cityscapes import cityscapes
from mbvision.data.masks import MaskItem, MaskReader, mask_file, mask_scheme
from mbvision.data.voc_masks import VOC_MASK_CLASSES, voc_masks
from mbvision.errors import AnnotationError, DataError
from mbvision.metrics.mask_results import mask_writer, write_cityscapes_mask, write_voc_mask
from mbvision.structures import MaskAnnotations, MaskScheme

VOC = mask_scheme(VOC_MASK_CLASSES, source="test")
OTHER = mask_scheme(["sky", "road"], source="test", ignored=(0, 255), palette=[(128, 0, 0), (0, 128, 0)])
"""Stored as 1 and 2."""
FRAMES = ("bern_000001_000019", "bern_000012_000019")


def reader_of(folder: Path, masks: dict[str, np.ndarray], scheme: MaskScheme) -> MaskReader:
    """Masks of stored values as a data set; its pictures are not there, for scoring does not read them."""
    folder.mkdir()
    items = []
    for name, values in masks.items():
        Image.fromarray(values).save(folder / f"{name}.png")
        mask = mask_file(folder / f"{name}.png", root=folder, scheme=scheme, max_pixels=10**6)
        items.append(MaskItem(image_id=name, image=folder / "none.jpg", image_root=folder, mask=mask))
    return MaskReader(annotations=MaskAnnotations(scheme=scheme, image_ids=tuple(masks)), items=items)


def two_frames(folder: Path) -> MaskReader:
    values = np.repeat(np.array([[7, 8, 11, 23, 26, 0]], dtype=np.uint8), 4, axis=0)
    return reader_of(folder, {name: values for name in FRAMES}, CITYSCAPES)


def some_labels(classes: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, (12, 17)).astype(np.uint8)


def test_a_voc_mask_has_the_official_palette_and_the_indices(tmp_path: Path) -> None:
    labels = some_labels(21)
    path = write_voc_mask(tmp_path / "new", "2007_000033", labels, VOC)
    assert path == tmp_path / "new" / "2007_000033.png" and [f.name for f in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image), labels)
        palette = image.getpalette()
        assert palette is not None
        colours = [tuple(palette[3 * index : 3 * index + 3]) for index in (0, 1, 2, 3, 4, 15, 255)]
    dark = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert colours == [*dark, (192, 128, 128), (224, 224, 192)]


def test_a_cityscapes_mask_has_label_ids_and_the_name_that_the_scripts_look_for(tmp_path: Path) -> None:
    labels = some_labels(19)
    path = write_cityscapes_mask(tmp_path, FRAMES[0], labels, CITYSCAPES)
    assert path.name == "bern_000001_000019_leftImg8bit_pred_labelIds.png"
    with Image.open(path) as image:
        assert image.mode == "L" and np.array_equal(np.asarray(image), np.array(CITYSCAPES.stored)[labels])


def test_any_other_mask_has_the_values_of_its_data_set(tmp_path: Path) -> None:
    labels = some_labels(2)
    path = mask_writer(tmp_path, OTHER)(12, labels)
    assert path.name == "12.png"
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), labels + 1)
    assert mask_writer(tmp_path, CITYSCAPES)("bern_000001_000019", labels).name.endswith("_pred_labelIds.png")


def test_an_image_id_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = write_voc_mask(tmp_path / "masks", "../../evil/..\\name", some_labels(2), OTHER)
    assert path.parent == tmp_path / "masks" and path.is_file()


def test_a_label_that_is_no_class_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label 255 is none of the 2 classes"):
        write_voc_mask(tmp_path, 1, np.full((2, 2), 255, dtype=np.uint8), OTHER)


@pytest.mark.parametrize("kind", ["labelIds", "trainIds"])
def test_cityscapes_predictions_score_as_the_official_tool_does(test_data: Path, kind: str) -> None:
    root = test_data / "extra" / "cityscapes_layout"
    expected = json.loads((root / "expected.json").read_text())
    metrics = score_masks(root / f"predictions_{kind}", cityscapes(root=root, split="val"))
    assert metrics["mIoU"] == pytest.approx(expected["averageScoreClasses"], rel=1e-14)
    assert metrics["mIoU_categories"] == pytest.approx(expected["averageScoreCategories"], rel=1e-14)
    for name in CITYSCAPES.class_names:
        score = expected["classScores"][name]
        assert metrics["per_class"][name]["IoU"] == pytest.approx(-1 if score is None else score, rel=1e-14)
    assert metrics["images"] == metrics["images_total"] == 3


def test_the_installed_official_tool_agrees_on_the_files(test_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    root = test_data / "extra" / "cityscapes_layout"
    truth = sorted(str(path) for path in root.glob("gtFine/val/*/*_labelIds.png"))
    args = official.args
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    found = sorted(str(path) for path in root.glob("predictions_labelIds/*.png"))
    scores = official.evaluateImgLists(found, truth, args)
    metrics = score_masks(root / "predictions_labelIds", cityscapes(root=root, split="val"))
    assert metrics["mIoU"] == pytest.approx(scores["averageScoreClasses"], rel=1e-14)
    assert metrics["mIoU_categories"] == pytest.approx(scores["averageScoreCategories"], rel=1e-14)


def test_voc_predictions_score_as_expected_in_all_three_ways(test_data: Path) -> None:
    root = test_data / "extra" / "vocseg_layout"
    expected = json.loads((root / "expected.json").read_text())
    metrics = score_masks(root / "predictions", voc_masks(root=root / "VOCdevkit", split="val"))
    assert metrics["mIoU"] == pytest.approx(expected["miou_over_classes_with_union"], rel=1e-14)
    assert metrics["mIoU_present"] == pytest.approx(expected["miou_over_classes_in_ground_truth"], rel=1e-14)
    assert metrics["mIoU_all"] == pytest.approx(expected["miou_absent_counted_as_zero"], rel=1e-14)
    assert metrics["pixel_accuracy"] == pytest.approx(expected["pixel_accuracy"], rel=1e-14)
    rows = zip(metrics["per_class"].values(), expected["iou"], expected["class_accuracy"], strict=True)
    for row, iou, accuracy in rows:
        assert row["IoU"] == pytest.approx(-1 if iou is None else iou, rel=1e-14)
        assert row["accuracy"] == pytest.approx(-1 if accuracy is None else accuracy, rel=1e-14)


def test_what_is_written_scores_as_what_it_was_written_from(tmp_path: Path) -> None:
    truth = some_labels(2)
    reader = reader_of(tmp_path / "truth", {"a": truth + 1, "b": 2 - truth}, OTHER)
    for name, labels in (("a", truth), ("b", 1 - truth)):
        write_voc_mask(tmp_path / "found", name, labels, OTHER)
    assert score_masks(tmp_path / "found", reader)["mIoU"] == 1


def test_masks_of_the_classes_colours_are_read_too(tmp_path: Path) -> None:
    values = np.array([[1, 2, 2, 0]], dtype=np.uint8)
    reader = reader_of(tmp_path / "truth", {"a": values}, OTHER)
    colours = np.array([(224, 224, 192), *OTHER.palette], dtype=np.uint8)[values]
    (tmp_path / "found").mkdir()
    Image.fromarray(colours).save(tmp_path / "found" / "a.png")
    assert score_masks(tmp_path / "found", reader)["mIoU"] == 1


def test_ignored_and_unknown_predictions_are_missed_but_found_nowhere(tmp_path: Path) -> None:
    reader = reader_of(tmp_path / "truth", {"a": np.array([[1, 1, 1, 1, 2, 2, 0, 255]], dtype=np.uint8)}, OTHER)
    (tmp_path / "found").mkdir()
    Image.fromarray(np.array([[1, 0, 77, 255, 2, 2, 1, 1]], dtype=np.uint8)).save(tmp_path / "found" / "a.png")
    metrics = score_masks(tmp_path / "found", reader)
    assert metrics["per_class"] == {"sky": {"IoU": 0.25, "accuracy": 0.25}, "road": {"IoU": 1.0, "accuracy": 1.0}}
    assert metrics["pixel_accuracy"] == 0.5


def test_cityscapes_files_are_found_in_subfolders_whatever_follows_the_frame(tmp_path: Path) -> None:
    reader = two_frames(tmp_path / "truth")
    labels = np.repeat(np.array([[0, 1, 2, 10, 13, 0]], dtype=np.uint8), 4, axis=0)
    path = write_cityscapes_mask(tmp_path / "found" / "bern", FRAMES[0], labels, CITYSCAPES)
    path.rename(path.with_name(f"{FRAMES[0]}.png"))
    (tmp_path / "found" / "notes_000001.png").touch()
    with pytest.raises(DataError, match=f"1 of 2 images have no file .* the first is '{FRAMES[1]}'"):
        score_masks(tmp_path / "found", reader)
    second = write_cityscapes_mask(tmp_path / "found", FRAMES[1], labels, CITYSCAPES)
    assert score_masks(tmp_path / "found", reader)["mIoU"] == 1
    twice = write_cityscapes_mask(tmp_path / "found" / "old", FRAMES[1], labels, CITYSCAPES)
    with pytest.raises(DataError, match=f"{second} and {twice} are both of image '{FRAMES[1]}'"):
        score_masks(tmp_path / "found", reader)


@pytest.mark.parametrize(("ending", "right"), [("_trainIds", True), ("_gtFine_labelTrainIds", True), ("_pred", False)])
def test_train_ids_are_known_by_their_name_or_refused(tmp_path: Path, ending: str, right: bool) -> None:
    reader = two_frames(tmp_path / "truth")
    (tmp_path / "found").mkdir()
    for name in FRAMES:
        labels = np.repeat(np.array([[0, 1, 2, 10, 13, 0]], dtype=np.uint8), 4, axis=0)
        Image.fromarray(labels).save(tmp_path / "found" / f"{name}{ending}.png")
    if right:
        assert score_masks(tmp_path / "found", reader)["mIoU"] == 1
    else:
        with pytest.raises(AnnotationError, match="no label id above 18, so they seem to be train ids"):
            score_masks(tmp_path / "found", reader)


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    reader = reader_of(tmp_path / "truth", {"a": np.ones((4, 6), dtype=np.uint8)}, OTHER)
    write_voc_mask(tmp_path / "found", "a", np.zeros((6, 4), dtype=np.uint8), OTHER)
    with pytest.raises(AnnotationError, match=r"a\.png: the mask is 4x6, its image 6x4"):
        score_masks(tmp_path / "found", reader)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    reader = reader_of(tmp_path / "truth", {"a": np.ones((4, 6), dtype=np.uint8)}, OTHER)
    with pytest.raises(DataError, match="no such folder"):
        score_masks(tmp_path / "found", reader)
    (tmp_path / "found").mkdir()
    with pytest.raises(DataError, match=r"1 of 1 images have no file ID\.png there, the first is 'a'"):
        score_masks(tmp_path / "found", reader)
