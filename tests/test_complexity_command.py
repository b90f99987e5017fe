"""``complexity`` as users type it: tables, JSON, CSV, pictures, sweeps, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from mbvision.commands import complexity, run
from mbvision.data.scenes import make_scenes

V1 = ["task=classification", "backbone=mobilenet_v1", "input_size=224"]


def counted(path: Path, *arguments: str) -> Any:
    """What the command writes."""
    assert run(complexity.main, [*arguments, f"output={path}"]) == 0
    return json.loads(path.read_text())


def test_the_file_holds_whole_numbers_and_every_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = counted(tmp_path / "a.json", *V1)
    printed = capsys.readouterr().out
    assert found["parameters"] == 4_231_976 and found["madds"] == 568_740_352
    for groups in ("layers", "stages", "work"):
        for measure in ("parameters", "madds", "activation_bytes"):
            numbers = [group[measure] for group in found[groups]]
            assert sum(numbers) == found[measure] and all(type(number) is int for number in numbers)
    assert found["activation_bytes"] == 4 * 5_043_688 and found["largest_activation_bytes"] == 4 * 64 * 112 * 112
    assert len(found["separable"]) == 13 and found["separable"][0]["ratio"] == pytest.approx(1 / 64 + 1 / 9)
    assert "parameters 4,231,976" in printed and "MAdds 568,740,352" in printed
    for share in ("94.86", "3.06", "1.91", "0.18"):  # arXiv:1704.04861, table 2
        assert share in printed


@pytest.mark.parametrize(
    ("arguments", "classes", "parameters"),
    [
        # parameters of torchvision's builds of the same name, and of arXiv:1905.02244, table 7, row 8
        (["task=classification", "backbone=mobilenet_v3_small", "input_size=224"], 1000, 2_542_856),
        (["task=classification", "backbone=mobilenet_v3_large_minimalistic", "input_size=224"], 1000, 3_924_288),
        (["task=ssdlite_torchvision", "backbone.reduced_tail=true"], 90, 3_440_060),
        (["task=lraspp_torchvision", "output_stride=16", "input_size=520"], 21, 3_221_538),
        (
            ["task=deeplabv3_torchvision", "output_stride=16", "input_size=520"],
            21,
            11_029_328,
        ),  # with its auxiliary head
        (["task=lraspp", "backbone.reduced_tail=segmentation", "output_stride=16"], 19, 1_507_198),
    ],
)
def test_published_numbers_of_classes_without_data(
    arguments: list[str], classes: int, parameters: int, tmp_path: Path
) -> None:
    found = counted(tmp_path / "a.json", *arguments)
    (head,) = found["heads"]
    assert found["num_classes"] == {head: classes} and found["parameters"] == parameters


def test_with_data_the_classes_are_those_of_the_set(tmp_path: Path) -> None:
    make_scenes(tmp_path / "set", train_images=2, val_images=2)
    data = ["data=coco", f"data.root={tmp_path / 'set'}"]
    arguments = ["task=ssdlite", "backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=64"]
    found = counted(tmp_path / "a.json", *arguments, *data)
    assert found["num_classes"] == {"detection": 8}
    assert found["parameters"] == counted(tmp_path / "b.json", *arguments, "num_classes=8")["parameters"]


def test_convention_part_and_kind_of_detector_change_the_count(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert counted(path, *V1, "convention=paper_classification")["parameters"] == 4_210_088
    body = counted(path, *V1, "part=backbone")
    assert body["parameters"] == 4_231_976 - 1_025_000 and body["part"] == "backbone"
    half = counted(path, *V1, "value_bytes=2")
    assert half["activation_bytes"] == 2 * 5_043_688 and half["madds"] == 568_740_352
    detector = counted(path, *V1[:2], "input_size=600", "two_stage=true")
    assert f"{detector['madds'] / 1e9:.1f}" == "30.5"  # arXiv:1704.04861, table 13


def test_several_heads_are_counted_on_one_backbone(tmp_path: Path) -> None:
    size = ["backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=64"]
    joint = counted(tmp_path / "a.json", "task=[ssdlite,lraspp]", *size)
    assert joint["num_classes"] == {"detection": 90, "segmentation": 19}
    stages = {stage["name"] for stage in joint["stages"]}
    assert {"backbone.c4", "heads.detection.extra", "heads.segmentation.project"} <= stages


def test_a_csv_has_a_line_a_layer(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert run(complexity.main, [*V1, f"output={path}"]) == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert rows[0]["name"] == "backbone.stem.conv" and rows[0]["output"] == "32x112x112"
    assert sum(int(row["madds"]) for row in rows) == 568_740_352


def test_a_sweep_prints_writes_and_draws_every_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["sweep=true", "widths=[0.5,1.0]", "sizes=[160,[192,224]]"]
    found = counted(tmp_path / "a.json", *V1, *grid, f"picture={tmp_path / 'a.png'}")
    points = {(point["width"], tuple(point["input_size"])): point for point in found["points"]}
    assert len(points) == 4
    assert points[(0.5, (160, 160))]["madds"] == 76_524_800  # arXiv:1704.04861, table 9: 76 million
    assert points[(1.0, (192, 224))]["parameters"] == 4_231_976
    assert len(capsys.readouterr().out.splitlines()) == 3 + 4
    assert cv2.imread(str(tmp_path / "a.png")) is not None
    assert run(complexity.main, [*V1, *grid, f"output={tmp_path / 'a.csv'}"]) == 0
    first = next(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert first["madds"] == "76524800"


def test_heads_follow_the_width_of_a_sweep(tmp_path: Path) -> None:
    arguments = ["task=ssdlite", "backbone=mobilenet_v2", "input_size=64"]
    found = counted(tmp_path / "a.json", *arguments, "sweep=true", "widths=[0.5]", "sizes=[64]")
    alone = counted(tmp_path / "b.json", *arguments, "backbone.width=0.5")
    assert found["points"][0]["parameters"] == alone["parameters"]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    assert run(complexity.main, ["task=lraspp", "input_size=64", f"picture={tmp_path / 'a' / 'b.png'}"]) == 0
    picture = cv2.imread(str(tmp_path / "a" / "b.png"))
    assert picture.shape[1] > 1000 and (picture < 250).any(axis=2).mean() > 0.05


def test_it_never_says_the_other_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(complexity.main, V1) == 0
    assert run(complexity.main, ["--help"]) == 0
    printed = capsys.readouterr().out
    assert "MAdds" in printed and "flop" not in printed.lower()
    package = Path(complexity.__file__).parent.parent
    for path in (*(package / "analysis").glob("*.py"), package / "draw_complexity.py"):
        assert "flop" not in path.read_text().lower()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("convention=flops", "choose plain, paper_classification, paper_detection, paper_segmentation"),
        ("output=a.txt", "give a file that ends in .json, .csv"),
        ("picture=a.gif", "give a file that ends in .png"),
        ("part=neck", "nothing there costs anything; it has backbone.stem, backbone.c1"),
        ("num_classes=0", "give a whole number from 1 up"),
        ("num_classes=many", "give a whole number from 1 up"),
        ("value_bytes=0", "give a whole number in 1..16"),
        ("input_size=8", "at least 32"),
        ("backbone.width=-1", "number above 0"),
        ("convention", "is not key=value"),
        ("sizes=[]", "name at least one"),
    ],
)
def test_a_mistake_is_one_line(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(complexity.main, [*V1, argument]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and len(captured.err.strip().splitlines()) == 1 and not captured.out


def test_wrong_points_of_a_sweep_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, message in (("sizes=[8]", "at least 32"), ("widths=[0]", "number above 0")):
        assert run(complexity.main, [*V1, "sweep=true", argument]) == 2
        assert message in capsys.readouterr().err


def test_a_two_stage_detector_needs_the_last_features(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(complexity.main, ["task=lraspp", "backbone=mobilenet_v2", "two_stage=true"]) == 2
    assert "say task=classification" in capsys.readouterr().err
