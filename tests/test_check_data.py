"""The data doctor finds every planted fault, names its file and object, and finds nothing in a clean set."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mbvision.commands import check_data, run
from mbvision.data.scenes import make_scenes
from tests.fault_sets import box as coco_box
from tests.fault_sets import contents, faulty_coco, faulty_masks, faulty_voc, instances, picture, save
from tests.tiny_runs import write_coco

Found = set[tuple[str, str, str, str]]
COCO = ["data=coco", "data.train_split=train", "data.val_split=val"]


def doctor(tmp_path: Path, *keys: str, code: int = 0) -> dict[str, Any]:
    """The JSON of a run, which must end with ``code``."""
    output = tmp_path / "report.json"
    assert run(check_data.main, [*keys, f"output={output}"]) == code
    report: dict[str, Any] = json.loads(output.read_text())
    return report


def places(report: dict[str, Any], leave_out: Sequence[str] = ("class_starved", "out_of_reach")) -> Found:
    """Cause, split, file and object of every finding but of some causes."""
    return {
        (f["cause"], f["split"], Path(f["file"]).name, f["object"])
        for f in report["findings"]
        if f["cause"] not in leave_out
    }


def test_every_fault_of_a_coco_set_is_named_by_file_and_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = faulty_coco(tmp_path / "set")
    before = contents(root)
    report = doctor(tmp_path, *COCO, f"data.root={root}", f"pictures={tmp_path}/worst.png")
    assert contents(root) == before
    assert places(report) == {
        ("picture_unreadable", "train", "cut.jpg", ""),
        ("wrong_size", "train", "wrong.jpg", ""),
        ("no_box", "train", "set train", "annotation 19"),
        ("unknown_picture", "train", "set train", "annotation 20"),
        ("unknown_category", "train", "set train", "annotation 21"),
        ("shared_id", "train", "set train", "annotation 22"),
        ("box_empty", "train", "good.jpg", "annotation 11"),
        ("box_outside", "train", "good.jpg", "annotation 12"),
        ("box_overhang", "train", "good.jpg", "annotation 13"),
        ("box_twice", "train", "good.jpg", "annotation 10 and annotation 14"),
        ("box_nearly_twice", "train", "copy.jpg", "annotation 15 and annotation 16"),
        ("box_of_two_classes", "train", "copy.jpg", "annotation 16 and annotation 17"),
        ("one_pixel_box", "train", "cut.jpg", "annotation 18"),
        ("listed_twice", "train", "twice.jpg", ""),
        ("exif_stored", "train", "turned.jpg", ""),
        ("exif_unclear", "train", "flipped.jpg", ""),
        ("blank_picture", "train", "blank.jpg", ""),
        ("same_picture_other_labels", "train", "copy.jpg", ""),
        ("same_picture", "train", "twice.jpg", ""),
        ("same_picture_across", "val", "leak.jpg", ""),
        ("classes_differ", "val", "set val", "fox"),
        ("class_untrained", "train", "set train", "bird"),
        ("class_unscored", "val", "set val", "dog"),
        ("class_unused", "train", "set train", "cow"),
    }
    found = {f["cause"]: f["detail"] for f in report["findings"]}
    assert found["same_picture_across"] == "nearly identical to good.jpg of train, labelled differently"
    assert "cut short or damaged" in found["picture_unreadable"]
    assert "80x60, its annotation says 70x60" in found["wrong_size"]
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith(("error", "warning", "note"))]
    severities = [line.split()[0] for line in lines]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert len(lines) == len(report["summary"]) == len({s["cause"] for s in report["summary"]})
    assert "good.jpg annotation 11 (0x9 pixels); draw it anew, or delete it" in printed
    page = cv2.imread(str(tmp_path / "worst.png"))
    assert page is not None and ((page[..., 2] == 255) & (page[..., 0] == 0)).any(), "faulty boxes are red"


def test_a_clean_set_gives_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_scenes(tmp_path / "scenes", train_images=110, val_images=20)
    report = doctor(tmp_path, "data=coco", f"data.root={tmp_path}/scenes", f"pictures={tmp_path}/worst.png")
    assert report["findings"] == [] and report["summary"] == []
    assert report["sets"][0]["pictures_opened"] == {"train": 110, "val": 20}
    assert report["sets"][0]["anchors"]["mean_recall"] > 0.75 and len(report["sets"][0]["anchors"]["per_class"]) == 8
    assert report["sets"][0]["category_id_gaps"] == [[3, 3], [5, 6], [9, 10], [12, 12], [14, 15]]
    printed = capsys.readouterr().out
    assert "found: nothing" in printed and "category ids without 3, 5 to 6" in printed
    assert not (tmp_path / "worst.png").exists()


def test_annotations_are_checked_without_pictures(tmp_path: Path) -> None:
    root = faulty_coco(tmp_path / "set")
    for file in root.rglob("*.jpg"):
        file.unlink()
    report = doctor(tmp_path, *COCO, f"data.root={root}", "images=false")
    assert ("box_twice", "train", "good.jpg", "annotation 10 and annotation 14") in places(report)
    assert report["sets"][0]["pictures_opened"] == {} and not any(
        "picture" in cause for cause, *_ in places(report) if cause[0] == "s"
    )


def test_every_fault_of_a_voc_set_is_named_and_a_file_that_cannot_be_read_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = faulty_voc(tmp_path / "set")
    report = doctor(tmp_path, "data=voc", f"data.root={root}", "data.val_split=null", code=3)
    assert places(report) == {
        ("annotations_unreadable", "train", "c.xml", ""),
        ("no_box", "train", "a.xml", "object[0]"),
        ("corners_exchanged", "train", "a.xml", "object[1]"),
        ("starts_at_minus_1", "train", "a.jpg", "object[2]"),
        ("ends_1_outside", "train", "a.jpg", "object[3]"),
        ("one_pixel_box", "train", "b.jpg", "object[0]"),
        ("class_unused", "train", "set train", "aeroplane"),
    } | {("class_unused", "train", "set train", name) for name in _unused_voc_classes()}
    assert "2 pictures" in capsys.readouterr().out


def _unused_voc_classes() -> list[str]:
    from mbvision.data.voc import VOC_CLASSES

    return [name for name in VOC_CLASSES if name != "car"]


def test_every_fault_of_a_set_of_masks_is_named(tmp_path: Path) -> None:
    root = faulty_masks(tmp_path / "set")
    before = contents(root)
    report = doctor(
        tmp_path, "data=masks_folder", f"data.root={root}", "data.val_split=null", f"pictures={tmp_path}/p.png"
    )
    assert contents(root) == before
    assert places(report) == {
        ("mask_values", "train", "stray.png", ""),
        ("mask_colours", "train", "colour.png", ""),
        ("wrong_size", "train", "small.jpg", ""),
        ("mask_unreadable", "train", "lossy.jpg", ""),
        ("picture_unreadable", "train", "torn.png", ""),  # of the two files it is the mask that is named
        ("mask_ignored", "train", "ignored.jpg", ""),
    }
    assert "7 (5 pixels)" in next(f["detail"] for f in report["findings"] if f["cause"] == "mask_values")


def test_masks_of_train_ids_under_the_name_of_label_ids_are_found(tmp_path: Path) -> None:
    values = {f"a_000000_00000{n}": (7, 11, 23, 26) for n in range(10)} | {"a_000000_000010": (0, 2, 10, 13)}
    for seed, (stem, own) in enumerate(values.items()):
        mask = np.resize(np.array(own, dtype=np.uint8), (60, 80))
        save(Image.fromarray(mask), tmp_path / "set/gtFine/train/a" / f"{stem}_gtFine_labelIds.png")
        save(picture(seed), tmp_path / "set/leftImg8bit/train/a" / f"{stem}_leftImg8bit.png")
    report = doctor(tmp_path, "data=cityscapes", f"data.root={tmp_path}/set", "data.val_split=null")
    assert places(report, ("class_unused",)) == {("train_ids", "train", "a_000000_000010_leftImg8bit.png", "")}


def test_masks_in_black_and_white_are_found(tmp_path: Path) -> None:
    for seed in range(3):
        save(picture(seed), tmp_path / "set/images/train" / f"{seed}.jpg")
        mask = np.zeros((60, 80), dtype=np.uint8)
        mask[:20] = 255
        save(Image.fromarray(mask), tmp_path / "set/masks/train" / f"{seed}.png")
    (tmp_path / "set/classes.json").write_text('["ground", "thing"]')
    report = doctor(tmp_path, "data=masks_folder", f"data.root={tmp_path}/set", "data.val_split=null")
    details = [f["detail"] for f in report["findings"] if f["cause"] == "masks_of_one_class"]
    assert len(details) == 1 and details[0].endswith("(stored as 255): if they are 'thing', store 1 there")


def test_a_picture_in_two_classes_and_a_starved_class_are_found(tmp_path: Path) -> None:
    for number in range(25):
        save(picture(number), tmp_path / "set/train/cat" / f"{number}.jpg")
    save(picture(3), tmp_path / "set/train/dog/again.jpg")
    save(picture(60), tmp_path / "set/val/cat/a.jpg")
    save(picture(61), tmp_path / "set/val/dog/b.jpg")
    report = doctor(tmp_path, "data=image_folder", f"data.root={tmp_path}/set")
    assert places(report, ()) == {
        ("same_picture_other_labels", "train", "again.jpg", ""),
        ("class_starved", "train", "set train", "dog"),
    }
    details = {f["cause"]: f["detail"] for f in report["findings"]}
    assert details["same_picture_other_labels"] == "identical to cat/3.jpg of train, labelled differently"
    assert details["class_starved"] == "1 picture"


@pytest.mark.parametrize(
    ("shift", "cause"), [((1, 1, 0, 0), "starts_at_1"), ((0, 0, -1, -1), "ends_short"), ((0, 0, 0, 0), None)]
)
def test_wrong_conversions_from_voc_show_at_the_borders(
    tmp_path: Path, shift: tuple[int, ...], cause: str | None
) -> None:
    right = [[0, 10, 20, 20], [5, 0, 30, 20], [50, 10, 30, 30], [20, 40, 40, 20], [0, 0, 80, 60]]
    boxes: list[dict[str, Any]] = []
    for image in range(1, 5):
        for x, y, w, h in right:
            moved = [x + shift[0], y + shift[1], w + shift[2], h + shift[3]]
            boxes.append(coco_box(len(boxes) + 1, image, moved))
    instances(tmp_path / "set/train.json", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], boxes, ["cat"])
    report = doctor(
        tmp_path,
        "data=coco",
        f"data.root={tmp_path}/set",
        "data.train_split=train",
        "data.val_split=null",
        "images=false",
    )
    found = {f["cause"] for f in report["findings"]} - {"class_starved", "out_of_reach"}
    assert found == ({cause} if cause != "starts_at_1" else {"starts_at_1", "ends_1_outside"}) - {None}


def test_a_split_that_cannot_be_read_is_a_finding_and_the_other_one_is_checked(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    (root / "val.json").write_text('{"images": [')
    report = doctor(tmp_path, *COCO, f"data.root={root}", code=3)
    assert ("annotations_unreadable", "val", "val.json", "") in places(report)
    assert report["sets"][0]["pictures_opened"] == {"train": 7}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["data=coco", "data.root=/nowhere"], "/nowhere: there is no such folder"),
        (["output=report.txt"], "output=report.txt: give a file that ends in .json"),
        (["pictures=page.svg"], "pictures=page.svg: give a file that ends in .png or .jpg"),
        (["images=perhaps"], "images=perhaps: give true or false"),
        (["picture=a.png"], "picture: there is no such key, did you mean pictures?"),
        (["data.train_split=null", "data.val_split=null"], "name a split to check"),
        (["data=camvid", "task=ssdlite"], "has labels for segmentation alone"),
        (["loader.workers=-1"], "loader.workers=-1: give a whole number"),
    ],
)
def test_mistakes_in_the_keys_are_told_in_a_line(
    keys: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(check_data.main, keys) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_several_sets_are_checked_one_by_one(tmp_path: Path) -> None:
    boxes, masks = write_coco(tmp_path / "boxes", train=30, val=4), faulty_masks(tmp_path / "masks")
    for kind in ("images", "masks"):
        (masks / kind / "val").symlink_to(masks / kind / "train")
    first = f"{{name: coco, root: {boxes}, train_split: train, val_split: val, tasks: [detection]}}"
    keys = ["task=[ssdlite,lraspp]", f"data.sets=[{first}, {{name: masks_folder, root: {masks}}}]"]
    output = tmp_path / "report.json"
    assert run(check_data.main, [*keys, f"output={output}"]) == 0
    report = json.loads(output.read_text())
    assert [part["tasks"] for part in report["sets"]] == [["detection"], ["segmentation"]]
    own = ("class_starved", "out_of_reach")
    assert {finding["data"] for finding in report["findings"] if finding["cause"] not in own} == {str(masks)}
    assert ("mask_values", "val", "stray.png", "") in places(report)


@pytest.mark.parametrize("name", ["bccd", "raccoon"])
def test_the_faults_of_two_real_sets_are_found(name: str, test_data: Path, tmp_path: Path) -> None:
    report = doctor(tmp_path, "data=voc", f"data.root={test_data / name}")
    found = {(cause, Path(file).stem, thing) for cause, _, file, thing in places(report)}
    if name == "bccd":
        assert {
            ("one_pixel_box", "BloodImage_00343", "object[3]"),
            ("one_pixel_box", "BloodImage_00338", "object[12]"),
        } <= found
        assert sum(cause == "box_nearly_twice" for cause, *_ in found) == 7
    else:
        details = {f["file"]: f["detail"] for f in report["findings"]}
        pairs = {("98", "65"), ("120", "83"), ("116", "11"), ("74", "52")}
        assert {file: "identical to" in detail for file, detail in details.items()} == {
            f"raccoon-{late}.jpg": True for late, _ in pairs
        }
        assert all(f"raccoon-{early}.jpg" in details[f"raccoon-{late}.jpg"] for late, early in pairs)


def test_images_in_training_and_validation_are_found_without_opening_one_and_across_sets(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set")
    keys = ["data=coco", f"data.root={root}", "data.train_split=train", "images=false"]
    report = doctor(tmp_path, *keys, "data.val_split=train")
    found = [f for f in report["findings"] if f["cause"] == "same_picture_across"]
    assert len(found) == 7 and {(f["split"], f["detail"]) for f in found} == {("val", "the same file")}
    alike = doctor(tmp_path, *keys, "data.val_split=val", f"data.images={root}/train")
    assert sum(f["cause"] == "same_picture_across" for f in alike["findings"]) == 3
    assert not any(
        f["cause"] == "same_picture_across" for f in doctor(tmp_path, *keys, "data.val_split=val")["findings"]
    )
    one = f"{{name: coco, root: {root}, train_split: train, val_split: val, tasks: [detection]}}"
    other = f"{{name: coco, root: {root}, train_split: val, val_split: train, tasks: [detection]}}"
    across = doctor(tmp_path, f"data.sets=[{one},{other}]", "images=false")
    details = [f["detail"] for f in across["findings"] if f["cause"] == "same_picture_across"]
    assert details == ["the same file as in the training split of another set"] * (3 + 7)
