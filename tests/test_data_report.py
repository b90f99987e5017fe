"""What training says of its data when it starts."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mbvision.build import build_network
from mbvision.commands import data_report, fitting, run, train
from mbvision.data.coco import load_coco
from mbvision.data.image_folder import image_folder
from mbvision.data_checks.class_checks import check_classes, count_classes
from mbvision.data_checks.findings import CAUSES
from mbvision.data_checks.same_files import check_same_files, same_files
from mbvision.data_checks.split_counts import count_line
from mbvision.errors import DataError
from tests.fault_sets import box, faulty_coco, instances, picture, save
from tests.tiny_runs import arguments, config, write_coco


def test_training_tells_in_a_few_lines_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = faulty_coco(tmp_path / "faulty")
    file = root / "val.json"
    file.write_text(
        file.read_text().replace('"category_id": 5', '"category_id": 4').replace(', {"id": 5, "name": "fox"}', "")
    )
    settings = config(root)
    readers = fitting.build_readers(settings)
    caplog.clear()
    data_report.tell_findings(settings, build_network(settings, {"detection": 1}), *readers)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == data_report.MOST_TOLD + 2
    assert lines[0].startswith("data: 7 errors, ") and "check_data" in lines[0]
    assert lines[1].split(maxsplit=1) == ["1", CAUSES["no_box"].what] and lines[-1] == "  ..."


def test_training_tells_nothing_of_a_clean_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{number}.jpg" for number in range(20)]
    boxes = [box(number, number, [20, 15, 40, 30]) for number in range(1, 21)]
    for split in ("train", "val"):
        instances(tmp_path / f"{split}.json", names, boxes, ["cat"])
        save(picture(0), tmp_path / split / "0.jpg")
    settings = config(tmp_path)
    readers = fitting.build_readers(settings)
    caplog.clear()
    data_report.tell_findings(settings, build_network(settings, {"detection": 1}), *readers)
    assert caplog.records == []


def test_training_checks_the_annotations_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise DataError("the data were looked at")

    monkeypatch.setattr(data_report, "tell_findings", stop)
    assert run(train.main, [*arguments(write_coco(tmp_path / "set")), f"run_dir={tmp_path}/run"]) == 2
    assert "the data were looked at" in capsys.readouterr().err


def test_training_counts_each_split_and_names_a_class_of_which_nothing_trains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_coco(tmp_path / "set")
    for file in root.glob("*.json"):  # as a brush tool writes a class
        text = file.read_text()
        file.write_text(re.sub(r'("category_id": 2, [^}]*"iscrowd": )0', r"\g<1>1", text))
    settings = config(root)
    readers = fitting.build_readers(settings)
    caplog.set_level(logging.INFO)
    caplog.clear()
    data_report.tell_findings(settings, build_network(settings, {"detection": 1}), *readers)
    idle = "all are crowds, difficult, empty or outside"
    assert caplog.messages[:4] == [
        "data: train (train): 7 images, 10 boxes, of which 3 do not train (3 crowd)",
        f"data: train (train): class 'dark' has 3 boxes of which none trains: {idle}",
        "data: val (val): 3 images, 4 boxes, of which 1 do not train (1 crowd)",
        f"data: val (val): class 'dark' has 1 boxes of which none is scored: {idle}",
    ]
    counts = {
        split: count_classes(reader.truth["detection"]) for split, reader in zip(("a", "b"), readers, strict=True)
    }
    causes = [finding.cause for finding in check_classes({s: c for s, c in counts.items() if c}, {"a": "", "b": ""})]
    assert causes.count("class_idle") == 2 and "class_unused" not in causes


def test_boxes_that_do_not_train_are_counted_by_one_reason_each(tmp_path: Path) -> None:
    boxes = [
        box(1, 1, [0, 0, 9, 9]) | {"iscrowd": 1},
        box(2, 1, [0, 0, 0, 9]) | {"iscrowd": 1},
        box(3, 1, [5, 5, 0, 9]),
        box(4, 1, [900, 5, 9, 9]),
        box(5, 1, [5, 5, 9, 9]) | {"difficult": 1},
        box(6, 1, None),
        box(7, 77, None),
        box(8, 1, [5, 5, 9, 9]),
    ]
    instances(tmp_path / "a.json", ["a.jpg", "b.jpg"], boxes, ["cat"])
    assert count_line(2, {"detection": load_coco(tmp_path / "a.json")}) == (
        "2 images, 8 boxes, of which 7 do not train (2 crowd, 1 difficult, 1 without area, 1 outside their image, "
        "2 not to be read), 1 images without a box"
    )


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        (lambda root: {}, 0),
        (lambda root: {"val_split": "train"}, 7),
        (lambda root: {"images": str(root / "train")}, 3),  # names are alike in both splits
    ],
)
def test_validation_on_training_files_is_reported_when_training_starts(
    tmp_path: Path, change: Callable[[Path], dict[str, str]], shared: int, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_coco(tmp_path / "set")
    settings = config(root)
    settings["data"] |= change(root)
    readers = fitting.build_readers(settings)
    caplog.clear()
    data_report.tell_findings(settings, build_network(settings, {"detection": 1}), *readers)
    told = [message for message in caplog.messages if "files that training reads too" in message]
    assert len(told) == bool(shared)
    if shared:
        assert told[0].startswith(
            f"data: {shared} of {len(readers[1])} validation images are files that training reads"
        )


def test_links_and_other_sets_do_not_hide_that_a_file_is_shared(tmp_path: Path) -> None:
    for set_name in ("a", "b"):
        for split in ("train", "val"):
            save(picture(len(set_name + split)), tmp_path / set_name / split / "cat" / f"{set_name}{split}.jpg")
    (tmp_path / "b" / "val" / "cat" / "other name.jpg").symlink_to(tmp_path / "a" / "train" / "cat" / "atrain.jpg")
    (tmp_path / "A").symlink_to(tmp_path / "a")
    names = ("atrain", "Atrain", "aval", "bval")
    readers = {name: image_folder(root=tmp_path / name[0], split=name[1:]) for name in names}
    assert same_files(readers["atrain"], readers["aval"]) == []
    assert same_files(readers["atrain"], readers["bval"]) == same_files(readers["Atrain"], readers["bval"]) == [1]
    (finding,) = check_same_files({"val": readers["bval"]}, {"train": readers["atrain"]})
    assert finding.cause == "same_picture_across" and finding.picture == 1 and "of another set" in finding.detail
