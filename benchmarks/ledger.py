"""The ledger: every figure for parameters and multiply-adds that the MobileNet papers print, beside our count.

Each row of tests/data/paper_tables.json is built as the command ``complexity`` builds it with the row's arguments.

    python benchmarks/ledger.py

writes docs/ledger.md anew.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mbvision.commands.complexity import Subject, read_subject
from mbvision.network import Network
from mbvision.writing import replace_text

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data/paper_tables.json"
PAGE = ROOT / "docs/ledger.md"
UNITS = {"M": 10**6, "B": 10**9}
Measure = Literal["parameters", "madds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A printed figure and ours.

    ``digits`` is the printed number as a text and ``unit`` what it counts; ``tolerance`` is in per cent, None where
    nothing is asserted; ``status`` is what an independent count found, and ``recount`` that count.
    """

    digits: str
    unit: int
    ours: int
    tolerance: float | None
    status: str
    recount: int

    @property
    def printed(self) -> float:
        """The printed figure as a number of parameters or multiply-adds."""
        return float(self.digits) * self.unit

    @property
    def deviation(self) -> float:
        """Of ours from the printed one, in per cent of it."""
        return 100 * (self.ours - self.printed) / self.printed

    @property
    def digits_agree(self) -> bool:
        """Whether ours, rounded or cut to as many digits, is the printed figure."""
        step = self.unit // 10 ** len(self.digits.partition(".")[2])
        printed = round(self.printed / step)
        return printed in (self.ours // step, (2 * self.ours + step) // (2 * step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of a published table with its figures, None where none is printed, and the arguments that build it."""

    name: str
    source: str
    row: str
    arguments: str
    parameters: Figure | None
    madds: Figure | None
    note: str


def read_rows() -> list[dict[str, Any]]:
    """The rows of tests/data/paper_tables.json."""
    rows: list[dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))["rows"]
    return rows


@cache
def make_ledger() -> tuple[Entry, ...]:
    """All rows, in the order of the file."""
    return tuple(make_entry(row) for row in read_rows())


def make_entry(row: dict[str, Any]) -> Entry:
    """Build a row's network, count it, and put the result beside what is printed."""
    subject, network = _build(tuple(row["overrides"]))
    costs = [subject.cost(network, (height, width)) for height, width in row["sizes"]]
    ours = {
        "parameters": costs[0].parameters,
        "madds": sum(cost.madds for cost in costs) * row["passes"] * row["factor"],
    }
    printed = dict(zip(ours, row["printed"].split(" / "), strict=True))
    figures = {measure: _figure(row, measure, printed[measure], number) for measure, number in ours.items()}
    sizes = ", ".join(_size(size) for size in row["sizes"])
    return Entry(
        name=row["id"],
        source=row["source"],
        row=row["row"],
        arguments=" ".join([*row["overrides"], f"input_size={sizes}"]),
        parameters=figures["parameters"],
        madds=figures["madds"],
        note=row["note"],
    )


def _figure(row: dict[str, Any], measure: str, printed: str, ours: int) -> Figure | None:
    match = re.fullmatch(r"([\d.]+)([MB])", printed)
    if match is None:  # a dash: not printed
        return None
    return Figure(
        digits=match.group(1),
        unit=UNITS[match.group(2)],
        ours=ours,
        tolerance=row["tolerance_percent"][measure],
        status=row["status"][measure],
        recount=row["recount"][measure],
    )


def _size(size: Sequence[int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"[{size[0]},{size[1]}]"


@cache
def _build(overrides: tuple[str, ...]) -> tuple[Subject, Network]:
    subject = read_subject(overrides)
    return subject, subject.build()


def compared(entries: Sequence[Entry], measure: Measure) -> list[Figure]:
    """The printed figures of what the papers describe."""
    figures = [getattr(entry, measure) for entry in entries]
    return [figure for figure in figures if figure is not None and figure.status != "not_comparable"]


def summary(entries: Sequence[Entry]) -> list[str]:
    """How many figures there are, and how near ours come."""
    lines = [
        "| | figures | asserted | at the printed digits | within 1 % | within 3 % | not reproduced |",
        "|---|---|---|---|---|---|---|",
    ]
    titles: dict[Measure, str] = {"parameters": "parameters", "madds": "multiply-adds"}
    for measure, title in titles.items():
        figures = compared(entries, measure)
        numbers = [
            len(figures),
            sum(figure.tolerance is not None for figure in figures),
            sum(figure.digits_agree for figure in figures),
            sum(abs(figure.deviation) <= 1 for figure in figures),
            sum(abs(figure.deviation) <= 3 for figure in figures),
            sum(figure.status == "not_reproduced" for figure in figures),
        ]
        lines.append(f"| {title} | {' | '.join(map(str, numbers))} |")
    return lines


def verdict(figure: Figure) -> str:
    """How near ours comes, in words."""
    if figure.status in ("not_reproduced", "not_comparable"):
        return figure.status.replace("_", " ")
    if figure.digits_agree:
        return "digits agree"
    return f"within {next(bound for bound in (1, 3, 6) if abs(figure.deviation) <= bound)} %"


def page(entries: Sequence[Entry]) -> str:
    """docs/ledger.md."""
    both = sum(all(f is not None and f.digits_agree for f in (e.parameters, e.madds)) for e in entries)
    lines = [INTRODUCTION.format(rows=len(entries), both=both), *summary(entries), "", READING, "", "## Not reproduced"]
    lines += ["", "| row | printed | ours | why |", "|---|---|---|---|"]
    lines += [
        f"| {entry.source}: {entry.row} | {_printed(figure)} {title} | {figure.ours:,} | {entry.note} |"
        for entry in entries
        for title, figure in (("parameters", entry.parameters), ("MAdds", entry.madds))
        if figure is not None and figure.status in ("not_reproduced", "not_comparable")
    ]
    for source, group in groupby(entries, key=lambda entry: entry.source):
        lines += ["", f"## {source}", ""]
        lines += ["| row | parameters: printed | ours | | MAdds: printed | ours | | arguments |", "|---" * 8 + "|"]
        rows = list(group)
        lines += [
            f"| {entry.row} | {_cells(entry.parameters)} | {_cells(entry.madds)} | `{entry.arguments}` |"
            for entry in rows
        ]
        notes = dict.fromkeys(f"- {entry.row}: {entry.note}." for entry in rows if entry.note)
        lines += ["", *notes] if notes else []
    return "\n".join(lines) + "\n"


def _printed(figure: Figure) -> str:
    return figure.digits + {10**6: "M", 10**9: "B"}[figure.unit]


def _cells(figure: Figure | None) -> str:
    if figure is None:
        return "- | - | "
    return f"{_printed(figure)} | {figure.ours:,} | {figure.deviation:+.2f} %, {verdict(figure)}"


INTRODUCTION = """\
# The ledger

Every figure for parameters and multiply-adds (MAdds) that the three MobileNet papers and the release pages of their
authors print: {rows} rows, each built from the public configuration and counted. `python benchmarks/ledger.py` wrote
this page from `tests/data/paper_tables.json`; `tests/test_ledger.py` asserts every row within its tolerance, and that
the page is current. In {both} rows both figures agree at their printed digits, rounded or cut.
"""
READING = """\
A row's arguments are those of `python tools/complexity.py`. Several sizes stand for several scales, each run twice, the
second time mirrored; they are counted one by one and added. `convention=` says what is counted:

| convention | parameters | MAdds |
|---|---|---|
| `plain` | all, batch norms' scales and shifts among them | convolutions and linear layers |
| `paper_classification` | without batch norms | the same |
| `paper_detection` | without batch norms | and 2 for every element of a hard swish |
| `paper_segmentation` | all | and that, 1 for every element of the logits at the input's size, and dilated \
convolutions on maps whose sides are rounded up to multiples of their rate |

No paper states its convention, class counts or rounding: they are those under which whole tables come out, so agreement
means "consistent with". A cut figure of two digits may be 8 % off and agree."""


if __name__ == "__main__":
    replace_text(PAGE, page(make_ledger()))
    print("\n".join(summary(make_ledger())))
