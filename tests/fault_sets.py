"""Small data sets with planted faults, for the tests of the checks; pictures are 80x60 blocks of random colours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 80, 60
Record = dict[str, Any]


def picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A picture (width, height) that no other seed gives anything like."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, *, quality: int = 95, orientation: int | None = None) -> None:
    """Write a picture, with an EXIF orientation where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    options: Record = {"quality": quality} if path.suffix == ".jpg" else {}
    image.save(path, exif=exif.tobytes(), **options)


def cut(path: Path) -> None:
    """Leave half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def instances(
    file: Path, names: Sequence[str], boxes: Sequence[Record], categories: Sequence[str], **sizes: tuple[int, int]
) -> None:
    """A COCO file: images count from 1, categories from 1; ``sizes`` (width, height) by the pictures' stems."""
    images = []
    for number, name in enumerate(names, start=1):
        width, height = sizes.get(Path(name).stem, (WIDTH, HEIGHT))
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    known = [{"id": number, "name": name} for number, name in enumerate(categories, start=1)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": list(boxes), "categories": known}))


def box(number: int, image: int, bbox: Sequence[float] | None, category: int = 1) -> Record:
    """One COCO annotation; without a box where ``bbox`` is None."""
    record: Record = {"id": number, "image_id": image, "category_id": category}
    return record if bbox is None else record | {"bbox": list(bbox), "area": bbox[2] * bbox[3], "iscrowd": 0}


TRAIN = (
    "good.jpg",
    "copy.jpg",
    "cut.jpg",
    "wrong.jpg",
    "turned.jpg",
    "flipped.jpg",
    "blank.jpg",
    "twice.jpg",
    "twice.jpg",
    "fine.jpg",
)


def faulty_coco(root: Path) -> Path:
    """``train`` and ``val`` with one fault of each kind that COCO files and their pictures can have."""
    for seed, name in enumerate(dict.fromkeys(TRAIN)):
        save(picture(seed), root / "train" / name)
    save(picture(0), root / "train" / "copy.jpg")
    cut(root / "train" / "cut.jpg")
    save(picture(101), root / "train" / "turned.jpg", orientation=6)
    save(picture(102), root / "train" / "flipped.jpg", orientation=3)
    save(Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)), root / "train" / "blank.jpg")
    boxes = [
        box(10, 1, [10, 10, 30, 30]),
        box(11, 1, [20, 20, 0, 9]),
        box(12, 1, [90, 10, 9, 9]),
        box(13, 1, [60, 30, 25, 20]),
        box(14, 1, [10, 10, 30, 30]),
        box(15, 2, [10, 10, 40, 40]),
        box(16, 2, [10, 10, 40, 37]),
        box(17, 2, [10, 10, 40, 36.5], 2),
        box(18, 3, [30, 30, 1, 12]),
        box(19, 3, None),
        box(20, 77, [3, 3, 9, 9]),
        box(21, 3, [3, 3, 9, 9], 9),
        box(22, 4, [3, 3, 30, 30], 2),
        box(22, 4, [40, 3, 30, 30], 2),
    ]
    instances(root / "train.json", TRAIN, boxes, ["cat", "dog", "cow", "bird"], wrong=(70, HEIGHT))
    names = ["leak.jpg", "other.jpg"]
    save(picture(0), root / "val" / "leak.jpg", quality=60)
    save(picture(50), root / "val" / "other.jpg")
    held = [box(1, 1, [10, 10, 30, 30]), box(2, 2, [5, 5, 20, 30], 4), box(3, 2, [40, 5, 25, 30], 5)]
    instances(root / "val.json", names, held, ["cat", "dog", "cow", "bird", "fox"])
    return root


def voc_file(file: Path, objects: Sequence[tuple[Sequence[float] | None, str]]) -> None:
    """A VOC file of a picture of 80x60; a box is xmin ymin xmax ymax as it stands there."""
    parts = []
    for corners, name in objects:
        sides = ""
        if corners is not None:
            pairs = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            sides = "<bndbox>" + "".join(f"<{side}>{value}</{side}>" for side, value in pairs) + "</bndbox>"
        parts.append(f"<object><name>{name}</name>{sides}</object>")
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation>{size}{''.join(parts)}</annotation>")


def faulty_voc(root: Path) -> Path:
    """A VOC set of one split, ``train``, with what only its files can have."""
    objects: dict[str, list[tuple[Sequence[float] | None, str]]] = {
        "a": [(None, "car"), ((30, 40, 11, 4), "car"), ((0, 5, 20, 30), "car"), ((41, 5, 81, 30), "car")],
        "b": [((5, 5, 5, 5), "car"), ((10, 10, 40, 40), "car")],
        "c": [((5, 5, 50, 50), "car")],
    }
    for seed, (stem, things) in enumerate(objects.items()):
        voc_file(root / "Annotations" / f"{stem}.xml", things)
        save(picture(seed), root / "JPEGImages" / f"{stem}.jpg")
    cut(root / "Annotations" / "c.xml")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{stem}\n" for stem in objects))
    return root


def faulty_masks(root: Path) -> Path:
    """``images/train`` and ``masks/train`` of two classes, a fault in each picture but ``good``."""
    good = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    good[20:40, 20:60] = 1
    stray, ignored = good.copy(), np.full_like(good, 255)
    stray[0, :5] = 7
    masks = {
        "good.png": Image.fromarray(good),
        "stray.png": Image.fromarray(stray),
        "colour.png": picture(9),
        "small.png": Image.fromarray(good[:30]),
        "lossy.jpg": Image.fromarray(good),
        "ignored.png": Image.fromarray(ignored),
        "torn.png": picture(10).convert("L"),
    }
    for seed, (name, mask) in enumerate(masks.items()):
        save(picture(seed), root / "images" / "train" / f"{Path(name).stem}.jpg")
        save(mask, root / "masks" / "train" / name)
    cut(root / "masks" / "train" / "torn.png")
    (root / "classes.json").write_text('["ground", "thing"]')
    return root


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder with its bytes and the time of its last change."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
