"""Pascal VOC: XML that is wrong is refused with its file, single objects are skipped by name."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mbvision.data.voc import read_voc
from tests.faults.box_contents import Found, found
from tests.faults.case import Case

BNDBOX = "<xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax>"
CORNERS = [10.0, 20.0, 40.0, 60.0]  # counted from 0, the last pixel included
OBJECT = f"<object><name>cat</name><difficult>0</difficult><bndbox>{BNDBOX}</bndbox></object>"
SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"


def xml(objects: str = OBJECT, size: str = SIZE) -> bytes:
    return f"<annotation><filename>x.jpg</filename>{size}{objects}</annotation>".encode()


def write(folder: Path, content: bytes, listed: bytes = b"a\n") -> Path:
    """A year of VOC with one picture, ``a``, in the split ``train``."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(np.zeros((80, 100, 3), dtype=np.uint8)).save(folder / "JPEGImages" / "a.png")
    (folder / "Annotations" / "a.xml").write_bytes(content)
    (folder / "ImageSets" / "Main" / "train.txt").write_bytes(listed)
    return folder


def voc_cases() -> Iterator[Case]:
    yield from _good()
    yield from _skipped()
    yield from _refused()
    yield from _files()


def _read(root: Path) -> Found:
    return found(read_voc(root, "train"))


def _case(name: str, content: bytes, **expected: Any) -> Case:
    return Case(kind="VOC", name=name, make=lambda folder: write(folder, content), use=_read, **expected)


def _gives(*boxes: list[float]) -> Callable[[Found], bool]:
    return lambda found: found.boxes == [list(boxes)] and all(found.names[k] == "cat" for k in found.labels[0])


def _box(xmin: object, ymin: object, xmax: object, ymax: object, name: str = "cat") -> str:
    sides = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name><bndbox>{sides}</bndbox></object>"


def _good() -> Iterator[Case]:
    one = _gives(CORNERS)
    yield _case("one box", xml(), loads=one, quick=True)
    yield _case("with a byte order mark", b"\xef\xbb\xbf" + xml(), loads=one)
    yield _case("UTF-16", xml().decode().encode("utf-16"), loads=one)
    yield _case(
        "Latin-1, declared",
        b'<?xml version="1.0" encoding="latin-1"?>' + xml().replace(b"x.jpg", b"\xe9.jpg"),
        loads=one,
    )
    yield _case("no objects", xml(""), loads=lambda found: found.boxes == [[]])
    yield _case("decimals", xml(_box(11.5, 21, 40, 60)), loads=_gives([10.5, 20, 40, 60]))
    yield _case("spaces around values", xml(OBJECT.replace("cat", " \n cat \t").replace("11", " 11 ")), loads=one)
    yield _case("one pixel", xml(_box(5, 5, 5, 5)), loads=_gives([4, 4, 5, 5]))
    yield _case("the whole picture", xml(_box(1, 1, 100, 80)), loads=_gives([0, 0, 100, 80]))
    yield _case("difficult does not train", xml(OBJECT.replace("<difficult>0", "<difficult>1")), loads=_gives())
    for flag in ("<difficult/>", "<difficult>Unspecified</difficult>", ""):
        yield _case(
            f"difficult as {flag or 'nothing'}", xml(OBJECT.replace("<difficult>0</difficult>", flag)), loads=one
        )
    part = f"<part><name>head</name><bndbox>{BNDBOX}</bndbox></part></object>"
    yield _case("a part of an object", xml(OBJECT.replace("</object>", part)), loads=one, quick=True)
    yield _case("no size", xml(size=""), loads=one)
    yield _case("a size of 0", xml(size=SIZE.replace("100", "0")), loads=one)
    yield _case("keys in another order", xml(f"<object><bndbox>{BNDBOX}</bndbox><name>cat</name></object>"), loads=one)
    yield _case("a comment and a CDATA section", xml(OBJECT.replace("cat", "<!-- x --><![CDATA[cat]]>")), loads=one)


def _skipped() -> Iterator[Case]:
    for name, box in {
        "outside": _box(500, 21, 540, 60),
        "outside, negative": _box(-90, -80, -60, -50),
        "no bndbox": "<object><name>cat</name></object>",
        "no xmax": _box(11, 21, 40, 60).replace("<xmax>40</xmax>", ""),
        "NaN": _box("nan", 21, 40, 60),
        "infinite": _box(11, 21, "inf", 60),
        "1e400": _box(11, 21, "1e400", 60),
    }.items():
        # the second object of a.xml, or the annotation with number 2
        where = (
            "object[1] in a.xml"
            if "<xmin>" not in box or "no xmax" in name or name in ("NaN", "infinite", "1e400")
            else "2 in a.png"
        )
        yield _case(f"a box: {name}", xml(OBJECT + box), loads=_gives(CORNERS), skips=(where,), quick=name == "NaN")
    yield _case("corners exchanged", xml(_box(40, 60, 11, 21)), loads=_gives(CORNERS), skips=("object[0] in a.xml",))
    yield _case(
        "20 pixels over the border", xml(_box(81, 61, 120, 100)), loads=_gives([80, 60, 100, 80]), skips=("1 in a.png",)
    )


def _refused() -> Iterator[Case]:
    entity = b'<!DOCTYPE a [<!ENTITY e "cat">]>' + xml(OBJECT.replace("cat", "&e;"))
    laughs = (
        b'<!DOCTYPE a [<!ENTITY a "ha">'
        + b"".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">'.encode() for i in range(9))
        + b"]>"
        + xml(OBJECT.replace("cat", "&j;"))
    )
    outside = b'<!DOCTYPE a [<!ENTITY e SYSTEM "../outside/secret.txt">]>' + xml(OBJECT.replace("cat", "&e;"))
    network = b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">' + xml()
    for name, content in {
        "empty": b"",
        "not XML": b'{"images": []}',
        "cut": xml()[:-40],
        "noise": np.random.default_rng(4).bytes(2000),
        "an entity": entity,
        "a billion laughs": laughs,
        "an entity of a file outside": outside,
        "a DTD of another machine": network,
        "a namespace": xml().replace(b"<annotation>", b'<annotation xmlns="http://x.y/z">'),
        "another root": xml().replace(b"annotation>", b"annotations>"),
        "an HTML page": b"<html><body>404</body></html>",
        "nested 100,000 deep": b"<annotation>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</annotation>",
        "5 MiB": xml() + b" " * (5 * 1024**2),
        "an unknown encoding": b'<?xml version="1.0" encoding="klingon"?>' + xml(),
        "bytes that are no UTF-8": xml().replace(b"cat", b"\xff\xfe\xfd"),
        "a null character": xml().replace(b"cat", b"c\0t"),
        "two roots": xml() + xml(),
        "a class without name": xml("<object><name> </name></object>"),
        "no class": xml(f"<object><bndbox>{BNDBOX}</bndbox></object>"),
        "a class name of two lines": xml(OBJECT.replace("cat", "c\nt")),
        "a number that is a text": xml(_box("left", 21, 40, 60)),
        "a number with a comma": xml(_box("11,5", 21, 40, 60)),
        "another size than the picture's": xml(size=SIZE.replace("100", "101")),
    }.items():
        yield _case(
            name, content, error=("a.",), quick=name in ("cut", "a billion laughs", "an entity of a file outside")
        )


def _files() -> Iterator[Case]:
    def case(name: str, make: Callable[[Path], Path], *words: str, split: str = "train", quick: bool = False) -> Case:
        return Case(
            kind="VOC", name=name, make=make, use=lambda root: found(read_voc(root, split)), error=words, quick=quick
        )

    def without(name: str) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            (write(folder, xml()) / name).unlink()
            return folder

        return make

    def pipe(folder: Path) -> Path:
        os.mkfifo(without("Annotations/a.xml")(folder) / "Annotations" / "a.xml")
        return folder

    def endless(folder: Path) -> Path:
        (without("Annotations/a.xml")(folder) / "Annotations" / "a.xml").symlink_to("/dev/zero")
        return folder

    def outward(folder: Path) -> Path:
        (folder.parent / "outside" / "b.xml").write_bytes(xml())
        (without("Annotations/a.xml")(folder) / "Annotations" / "a.xml").symlink_to(folder.parent / "outside" / "b.xml")
        return folder

    yield case("an XML file that is missing", without("Annotations/a.xml"), "a.xml", quick=True)
    yield case("a picture that is missing", without("JPEGImages/a.png"), "a.jpg")
    yield case("an XML file that is a pipe", pipe, "a.xml", quick=True)
    yield case("an XML file that is a device", endless, "a.xml")
    yield case("an XML file that is a link to outside", outward, "a.xml", "leads out")
    yield case("no such root", lambda folder: folder / "none", "none")
    yield case("no such split", lambda folder: write(folder, xml()), "test", split="test")
    yield case("a split that is empty", lambda folder: write(folder, xml(), b"\n\n"), "train")
    yield case("a picture listed twice", lambda folder: write(folder, xml(), b"a\na\n"), "train.txt", "'a'")
    for name in ("../../outside/secret", "/etc/passwd", "a\0b"):
        listed = partial(write, content=xml(), listed=name.encode() + b"\n")
        yield case(f"a list that names {name!r}", listed, "train.txt")
    yield case("a list that is no text", lambda folder: write(folder, xml(), b"\xff\xfe\xfd\n"), "train.txt")
