"""COCO instances files: structure that is wrong is refused with its key path, single records are skipped by id."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mbvision.data.coco import read_coco
from tests.faults.box_contents import Found, found
from tests.faults.case import Case

BOX = [10, 20, 30, 40]
CORNERS = [10.0, 20.0, 40.0, 60.0]
WIDTH, HEIGHT = 100, 80


def document(**changes: Any) -> dict[str, Any]:
    """One picture with one box, of the first of two classes."""
    whole: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": BOX, "area": 1200, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    return whole | changes


def record(part: str, **changes: Any) -> dict[str, Any]:
    """The document with keys of its first record of a part changed; None takes a key out."""
    whole = document()
    first = whole[part][0] | changes
    whole[part] = [{k: v for k, v in first.items() if v is not ...}, *whole[part][1:]]
    return whole


def write(folder: Path, content: bytes) -> tuple[Path, Path]:
    """The JSON file, and the folder with its picture."""
    pictures = folder / "pictures"
    pictures.mkdir()
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)).save(pictures / "a.png")
    (folder / "boxes.json").write_bytes(content)
    return folder / "boxes.json", pictures


def coco_cases() -> Iterator[Case]:
    yield from _good()
    yield from _skipped()
    yield from _structure()
    yield from _values()
    yield from _files()


def _case(name: str, content: Any, **expected: Any) -> Case:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Case(
        kind="COCO",
        name=name,
        make=lambda folder: write(folder, raw),
        use=lambda given: found(read_coco(*given)),
        **expected,
    )


def _bad(name: str, content: Any, *words: str, quick: bool = False) -> Case:
    return _case(name, content, error=("boxes.json", *words), quick=quick)


def _gives(boxes: list[list[float]], labels: list[int] | None = None) -> Callable[[Found], bool]:
    wanted = [0] * len(boxes) if labels is None else labels
    return lambda found: found.boxes == [boxes] and found.labels == [wanted] and found.names[:2] == ["cat", "dog"]


def _good() -> Iterator[Case]:
    one = _gives([CORNERS])
    text = json.dumps(document())
    yield _case("one box", document(), loads=one, quick=True)
    yield _case("with a byte order mark", b"\xef\xbb\xbf" + text.encode(), loads=one)
    yield _case("UTF-16", text.encode("utf-16"), loads=one)
    yield _case("an empty list of annotations", document(annotations=[]), loads=_gives([]))
    yield _case(
        "sparse and large ids",
        json.loads(text.replace('"id": 1', '"id": 2000000000000').replace('d": 1,', 'd": 2000000000000,')),
        loads=one,
    )
    yield _case(
        "a category id of 0",
        json.loads(text.replace('"category_id": 3', '"category_id": 0').replace('"id": 3', '"id": 0')),
        loads=one,
    )
    yield _case(
        "ids of pictures that are texts",
        json.loads(text.replace('"id": 1', '"id": "x"').replace('"image_id": 1', '"image_id": "x"')),
        loads=one,
    )
    yield _case("without area, iscrowd, segmentation", record("annotations", area=..., iscrowd=...), loads=one)
    yield _case(
        "decimals", record("annotations", bbox=[10.5, 20.25, 30, 40]), loads=_gives([[10.5, 20.25, 40.5, 60.25]])
    )
    yield _case(
        "half a pixel over the border", record("annotations", bbox=[-0.5, 0, 20, 20]), loads=_gives([[0, 0, 19.5, 20]])
    )
    yield _case("a crowd does not train", record("annotations", iscrowd=1), loads=_gives([]))
    yield _case("unknown keys", document(info={"a": [1]}, licenses=[{"id": 1}], more=None), loads=one)
    yield _case("sizes with a point", record("images", width=100.0, height=80.0), loads=one)
    yield _case("a good polygon", record("annotations", segmentation=[[10, 20, 40, 20, 40, 60]]), loads=one)
    runs = {"size": [HEIGHT, WIDTH], "counts": [100, 200, HEIGHT * WIDTH - 300]}
    yield _case("good run lengths", record("annotations", segmentation=runs, iscrowd=0), loads=one)


def _skipped() -> Iterator[Case]:
    """The bad box is left out by its id; the good one stays."""
    boxes: dict[str, Any] = {
        "a width of 0": [10, 20, 0, 40],
        "a negative height": [10, 20, 30, -1],
        "wholly outside": [500, 20, 30, 40],
        "wholly outside, to the left": [-50, 20, 30, 40],
        "a box of 1e308": [1e308, 1e308, 1e308, 1e308],
        "missing": None,
        "empty": [],
        "NaN": [float("nan"), 20, 30, 40],
        "infinite": [10, 20, float("inf"), 40],
        "null in it": [10, None, 30, 40],
    }
    good = document()["annotations"][0]
    for name, box in boxes.items():
        more = [good, good | {"id": 4711, "bbox": box}]
        yield _case(
            f"a box: {name}",
            document(annotations=more),
            loads=_gives([CORNERS]),
            skips=("4711",),
            quick=name in ("NaN", "wholly outside"),
        )
    over = [good, good | {"id": 4711, "bbox": [80, 60, 50, 50]}]
    yield _case(
        "20 pixels over the border",
        document(annotations=over),
        loads=_gives([CORNERS, [80, 60, 100, 80]]),
        skips=("4711",),
    )
    for key, value in (("image_id", 99), ("category_id", 99)):
        more = [good, good | {"id": 4711, key: value}]
        yield _case(
            f"an unknown {key}", document(annotations=more), loads=_gives([CORNERS]), skips=("4711",), quick=True
        )
    same = document(annotations=[good, good | {"bbox": [1, 1, 5, 5]}])
    yield _case("an annotation id twice", same, loads=_gives([CORNERS, [1, 1, 6, 6]]), skips=("7",))
    yield _case("a negative area", record("annotations", area=-5), loads=_gives([CORNERS]), skips=("7",))
    outlines: dict[str, Any] = {
        "a polygon of two points": [[1, 2, 3, 4]],
        "a polygon of seven numbers": [[1, 2, 3, 4, 5, 6, 7]],
        "a polygon with NaN": [[1, 2, float("nan"), 4, 5, 6]],
        "a polygon with infinity": [[1, 2, float("inf"), 4, 5, 6]],
        "a polygon of texts": [["1", "2", "3", "4", "5", "6"]],
        "a polygon far outside": [[1, 2, 1e9, 4, 5, 6]],
        "numbers in no list": [1, 2, 3, 4, 5, 6],
        "a text": "polygon",
        "runs that are too short": {"size": [HEIGHT, WIDTH], "counts": [5, 5]},
        "runs of another size": {"size": [9, 9], "counts": [40, 41]},
        "negative runs": {"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]},
        "packed runs that are noise": {"size": [HEIGHT, WIDTH], "counts": "~~~\u00ff"},
        "packed runs, cut": {"size": [HEIGHT, WIDTH], "counts": "PPPPPPP"},
        "runs without size": {"counts": [8000]},
    }
    for name, outline in outlines.items():
        yield _case(
            f"segmentation: {name}", record("annotations", segmentation=outline), loads=_gives([CORNERS]), skips=("7",)
        )


def _structure() -> Iterator[Case]:
    text = json.dumps(document())
    broken = {
        "empty": b"",
        "not JSON": b"<annotation/>",
        "cut": text[:150].encode(),
        "bytes that are no UTF-8": text.replace("cat", "c\udcffat").encode(errors="surrogateescape"),
        "a list": b"[]",
        "a list of results": b'[{"image_id": 1, "category_id": 3, "bbox": [1,2,3,4], "score": 0.5}]',
        "a number": b"17",
        "null": b"null",
        "nested 100,000 deep": b"[" * 100_000,
        "objects nested 100,000 deep": b'{"a":' * 100_000,
        "a number of 10,000 digits": text.replace("1200", "9" * 10_000).encode(),
        "a key twice": b'{"images": [], ' + text[1:].encode(),
        "a key twice in a record": text.replace('"bbox"', '"bbox": [1,2,3,4], "bbox"').encode(),
        "two documents": (text + text).encode(),
        "noise": np.random.default_rng(2).bytes(3000),
    }
    for name, content in broken.items():
        yield _bad(name, content, quick=name in ("cut", "a key twice", "nested 100,000 deep"))
    for key in ("images", "annotations", "categories"):
        whole = document()
        whole.pop(key)
        yield _bad(f"no {key}", whole, key)
        for name, value in {"a text": "x", "null": None, "an object": {}, "a list of numbers": [1, 2]}.items():
            yield _bad(f"{key} is {name}", document(**{key: value}), key)
    for key in ("images", "categories"):
        yield _bad(f"no record in {key}", document(**{key: []}), key)
        yield _bad(f"an id twice in {key}", document(**{key: document()[key] * 2}), f"{key}[", "twice")


def _values() -> Iterator[Case]:
    wrong: dict[str, tuple[str, dict[str, Any]]] = {}
    for part, key, values in (
        ("images", "id", [..., None, True, 1.5, [1], {}]),
        (
            "images",
            "file_name",
            [
                ...,
                None,
                5,
                "",
                "/etc/passwd",
                "../in/pictures/a.png",
                "a/../../x.png",
                "C:\\a.png",
                "a\0.png",
                "a\n.png",
                "\ud800.png",
                "\\\\host\\a.png",
            ],
        ),
        ("images", "width", [..., None, "100", True, 0, -100, 100.5, float("nan"), 1e30, [100]]),
        ("annotations", "id", [..., None, "7", 7.5, True, 2**70]),
        ("annotations", "image_id", [..., None, 1.5, [1], True]),
        ("annotations", "category_id", [..., None, "3", 3.0, True]),
        (
            "annotations",
            "bbox",
            [
                "10 20 30 40",
                [1, 2, 3],
                [1, 2, 3, 4, 5],
                ["1", "2", "3", "4"],
                [True, 2, 3, 4],
                {"x": 1},
                [[1, 2, 3, 4]],
                7,
                [10**400, 2, 3, 4],
            ],
        ),
        ("annotations", "area", ["1200", [1], 10**400]),
        ("annotations", "iscrowd", ["0", [0], {}]),
        ("categories", "id", [..., None, "3", 3.5, True]),
        ("categories", "name", [..., None, 5, "a\nb", "\x1b[31mred", "\ud800"]),
    ):
        for value in values:
            shown = "missing" if value is ... else str(value)[:30].encode("unicode_escape").decode()
            wrong[f"{part}.{key} is {shown} ({type(value).__name__})"] = (part, {key: value})
    for name, (part, change) in wrong.items():
        yield _bad(name, record(part, **change), part)


def _files() -> Iterator[Case]:
    def without_picture(folder: Path) -> tuple[Path, Path]:
        file, pictures = write(folder, json.dumps(document()).encode())
        (pictures / "a.png").unlink()
        return file, pictures

    def other_picture(folder: Path) -> tuple[Path, Path]:
        file, pictures = write(folder, json.dumps(document()).encode())
        Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8)).save(pictures / "a.png")
        return file, pictures

    def outward(folder: Path) -> tuple[Path, Path]:
        file, pictures = write(folder, json.dumps(document()).encode())
        (pictures / "a.png").rename(folder.parent / "outside" / "a.png")
        (pictures / "a.png").symlink_to(folder.parent / "outside" / "a.png")
        return file, pictures

    def pipe(folder: Path) -> tuple[Path, Path]:
        os.mkfifo(folder / "boxes.json")
        return folder / "boxes.json", folder

    def case(name: str, make: Callable[[Path], tuple[Path, Path]], *words: str) -> Case:
        return Case(
            kind="COCO", name=name, make=make, use=lambda given: found(read_coco(*given)), error=words, quick=True
        )

    yield case("a picture that is missing", without_picture, "a.png")
    yield case("a picture of another size", other_picture, "a.png", "40x30", "100x80")
    yield case("a picture that is a link to outside", outward, "a.png")
    yield case("a pipe", pipe, "boxes.json")
    yield case("no such file", lambda folder: (folder / "boxes.json", folder), "boxes.json")
    yield case("a folder", lambda folder: (folder, folder), "in")
    yield case("no folder of pictures", lambda folder: (write(folder, b"{}")[0], folder / "none"), "none")
