"""Every benchmark runs in its quick form; it stops by itself where the two sides differ. Nothing timed is asserted."""

import json
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks.timing import Case, check, measure, measure_apart

NAMES = (
    "coco_evaluation",
    "data_pipeline",
    "inference",
    "matching",
    "postprocessing",
    "runtimes",
    "segmentation",
    "training_step",
    "video",
)


# torchvision's own JPEG decoder is what its users have today, deprecated or not
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_quick_form_finds_both_sides_equal_and_writes_its_tables(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "coco_evaluation":
        pytest.importorskip("hotcoco")
    if name == "runtimes":
        pytest.importorskip("onnxruntime")
    threads = torch.get_num_threads()
    import_module(f"benchmarks.{name}").main(["--quick", "--output", str(tmp_path / "out.json")])
    torch.set_num_threads(threads)
    content = json.loads((tmp_path / "out.json").read_text())
    printed = capsys.readouterr().out
    assert content["machine"]["torch"] == torch.__version__ and content["tables"][0]["checks"]
    for table in content["tables"]:
        assert table["rows"][0]["cpu_ratio"] == 1 and table["title"] in printed
        assert all(row["name"] in printed for row in table["rows"])


def test_cases_take_turns_and_what_prepares_them_is_run_before_each() -> None:
    calls: list[str] = []
    cases = [
        Case(name="a", prepare=lambda: calls.append("prepare"), run=lambda _: calls.append("a")),
        Case(name="b", run=lambda _: calls.append("b")),
    ]
    rows = measure(cases, rounds=2)
    assert [row.name for row in rows] == ["a", "b"]
    assert calls == ["b", "prepare", "a", "prepare", "a", "b", "b", "prepare", "a"]


def _note(name: str, file: Path) -> dict[str, Callable[[], object]]:
    """Functions that write down who called them, and where."""

    def write(part: str) -> None:
        with file.open("a") as notes:
            notes.write(f"{part} {name} {os.getpid()}\n")

    return {part: partial(write, part) for part in (("core", "whole") if name == "a" else ("core",))}


def test_sides_in_processes_of_their_own_take_turns(tmp_path: Path) -> None:
    sides = {name: partial(_note, name, tmp_path / name) for name in ("a", "b")}
    rows = measure_apart(sides, rounds=2, turn_s=0)
    assert {part: [row.name for row in own] for part, own in rows.items()} == {"core": ["a", "b"], "whole": ["a"]}
    lines = [line.split() for name in ("a", "b") for line in (tmp_path / name).read_text().splitlines()]
    assert [f"{part} {name}" for part, name, _ in lines] == [
        *("core a", "whole a", *("core a",) * 4, *("whole a",) * 4),  # in a turn one run that counts, after one
        *("core b",) * 5,
    ]
    assert len({pid for *_, pid in lines} - {str(os.getpid())}) == 2


def test_a_check_that_fails_stops_the_benchmark() -> None:
    assert check(True, "two is two") == "two is two"
    with pytest.raises(SystemExit, match="does not hold that one is two"):
        check(False, "one is two")
