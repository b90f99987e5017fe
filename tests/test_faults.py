"""The quick part of the fault corpus: no input is swallowed, opaque, fatal or endless. See also ``make faults``."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbvision.errors import ImageError
from tests.faults.case import Case
from tests.faults.corpus import KINDS, corpus
from tests.faults.run import failures, run_cases, table

CASES = corpus()


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) >= 150
    assert not [name for name, count in Counter((case.kind, case.name) for case in CASES).items() if count > 1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_loads_is_skipped_by_name_or_refused_in_one_line(kind: str) -> None:
    results = run_cases(case for case in CASES if case.quick and case.kind == kind)
    assert results and not failures(results), "\n" + "\n".join([table(results), *failures(results)])


def _raise(error: BaseException) -> None:
    raise error


def _write_outside(path: Path) -> str:
    (path.parent / "outside" / "x").write_text("")
    return "right"


@pytest.mark.parametrize(
    ("use", "expected", "column"),
    [
        (lambda _: "right", {"loads": lambda found: found == "right"}, "loads"),
        (lambda _: "wrong", {"loads": lambda found: found == "right"}, "silent"),
        (lambda _: "right", {"error": ()}, "silent"),
        (lambda _: "right", {"loads": lambda _: True, "skips": ("17",)}, "silent"),
        (lambda _: _raise(ImageError("a.jpg: cut")), {"error": ("a.jpg",)}, "error"),
        (lambda _: _raise(ImageError("cut")), {"error": ("a.jpg",)}, "opaque"),
        (lambda _: _raise(ImageError("a.jpg: cut")), {"loads": lambda _: True}, "other"),
        (lambda _: _raise(KeyError("a.jpg")), {"error": ("a.jpg",)}, "opaque"),
        (lambda _: __import__("os").kill(__import__("os").getpid(), 9), {"error": ()}, "crash"),
        (lambda _: len(np.ones(200_000_000)), {"loads": lambda _: True}, "crash"),  # 1.6 GB
        (_write_outside, {"loads": lambda _: True}, "silent"),
        (lambda path: (path.parent / "outside" / "secret.txt").read_text(), {"error": ()}, "silent"),
    ],
)
def test_the_runner_sees_each_fault(use: Callable[[Path], object], expected: dict[str, Any], column: str) -> None:
    case = Case(kind="runner", name="a", make=lambda folder: folder, use=use, **expected)
    ((_, row),) = run_cases([case])
    assert row.column == column, row.said


def test_the_runner_ends_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.run.SECONDS", 0.5)
    case = Case(kind="runner", name="a", make=lambda f: f, use=lambda _: __import__("time").sleep(60), error=())
    ((_, row),) = run_cases([case])
    assert row.column == "hang"
