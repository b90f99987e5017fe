"""Every figure of the MobileNet papers, from the public configuration; and the page that shows them."""

import pytest

from benchmarks.ledger import PAGE, Entry, Figure, compared, make_entry, make_ledger, page, read_rows

ROWS = read_rows()
# The recount brings the logits of every scale to 513x513, ours each to its own size: 21 classes, and the mirror images.
SCALES = (257, 385, 513, 641, 769, 897)
UPSAMPLING = 2 * 21 * sum(size**2 - 513**2 for size in SCALES)


def entry(name: str) -> Entry:
    return next(entry for entry in make_ledger() if entry.name == name)


def figure(digits: str, unit: int, ours: int) -> Figure:
    return Figure(digits=digits, unit=unit, ours=ours, tolerance=None, status="exact", recount=ours)


@pytest.mark.parametrize("name", [row["id"] for row in ROWS])
def test_figures_lie_within_their_tolerances(name: str) -> None:
    for one in (entry(name).parameters, entry(name).madds):
        if one is not None and one.tolerance is not None:
            assert abs(one.deviation) <= one.tolerance


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_counts_are_those_of_an_independent_program(row: dict[str, dict[str, int]]) -> None:
    found = entry(str(row["id"]))
    if found.parameters is not None:
        assert found.parameters.ours == row["recount"]["parameters"]
    assert found.madds is not None
    more = UPSAMPLING if len(row["sizes"]) == len(SCALES) else 0
    assert found.madds.ours == row["recount"]["madds"] + more


def test_as_many_figures_agree_as_are_known_to() -> None:
    parameters, madds = compared(make_ledger(), "parameters"), compared(make_ledger(), "madds")
    assert (len(parameters), len(madds)) == (117, 130)
    assert sum(one.digits_agree for one in parameters) >= 106
    assert sum(one.digits_agree for one in madds) >= 95
    assert sum(abs(one.deviation) <= 1 for one in madds) >= 97
    assert sum(abs(one.deviation) <= 3 for one in madds) >= 117


def test_only_what_no_reading_reproduces_is_not_asserted() -> None:
    excused = {
        (found.name, title)
        for found in make_ledger()
        for title, one in (("parameters", found.parameters), ("madds", found.madds))
        if one is not None and one.tolerance is None
    }
    assert excused == {
        ("v1_attr_0.25_224", "madds"),
        ("v1_attr_0.25_128", "madds"),
        ("v1_0.25_192_release", "madds"),
        ("v2_1.4", "parameters"),
        ("v3_small_minimal", "madds"),
        ("v3_small_1280", "madds"),
        *((f"v1_facenet_{width}_{size}", "parameters") for width in ("1.0", "0.75") for size in (128, 160)),
    }
    assert all(entry(name).note for name, _ in excused), "the reason is missing"


def test_a_wrong_network_is_found_out() -> None:
    (row,) = (row for row in ROWS if row["id"] == "v1_0.75_224_t6")
    overrides = [one.replace("0.75", "0.5") for one in row["overrides"]]
    found = make_entry({**row, "overrides": overrides})
    assert found.madds is not None and found.madds.tolerance is not None
    assert abs(found.madds.deviation) > found.madds.tolerance and not found.madds.digits_agree


@pytest.mark.parametrize(
    ("digits", "unit", "ours", "agrees"),
    [
        ("569", 10**6, 568_740_352, True),  # rounded
        ("11", 10**6, 11_934_128, True),  # cut
        ("3.4", 10**6, 3_470_760, True),
        ("4866", 10**6, 4_867_293_184, False),
        ("0.5", 10**6, 464_600, True),
        ("0.5", 10**6, 444_600, False),
        ("14.25", 10**9, 14_232_153_813, False),
        ("1.20", 10**9, 1_195_000_000, True),
        ("1.20", 10**9, 1_194_999_999, False),
    ],
)
def test_digits_agree_if_rounding_or_cutting_gives_them(digits: str, unit: int, ours: int, agrees: bool) -> None:
    assert figure(digits, unit, ours).digits_agree is agrees


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(make_ledger()), "run python benchmarks/ledger.py"
