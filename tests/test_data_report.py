"""What training says of its data when it starts."""

from pathlib import Path

import pytest

from mbvision.build import build_network
from mbvision.commands import data_report, fitting, run, train
from mbvision.data_checks.findings import CAUSES
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
