"""The built-in data set: drawn scenes, written to disk as COCO 2017 and the VOC devkit are, and read as they are.

A box is the tight box of what can be seen of an object; ``area`` counts those pixels, and its polygons enclose exactly
them. Training and validation scenes come from disjoint ranges of seeds. A set is drawn once: ``scenes.json`` in its
folder says what it was drawn with.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from mbvision.data.boxes import BoxReader
from mbvision.data.coco import coco
from mbvision.data.images import MAX_PIXELS
from mbvision.data.scenes_drawing import CLASSES, Scene, SceneObject, draw_scene
from mbvision.errors import DataError

VERSION = 1
TRAIN_IMAGES, VAL_IMAGES = 4000, 500
_SEEDS_PER_SET = 10_000_000
_FIRST_VAL_SEED = 5_000_000
_FEW_IMAGES = 200
"""So few are drawn here sooner than other processes are started."""

_SMALL_AREA = 32**2
"""COCO's limit of a small object, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    """What the annotation files need of a scene."""

    image_id: int
    height: int
    width: int
    objects: tuple[SceneObject, ...]
    segmentations: tuple[Any, ...]

    @property
    def file_name(self) -> str:
        return f"{self.image_id:012d}.jpg"


def scenes(*, root: str, split: str, images: str | None = None, max_pixels: int = MAX_PIXELS) -> BoxReader:
    """The reader of a split (train2017, val2017) of the set in ``root``, which is drawn first if it is not there."""
    make_scenes(Path(root))
    return coco(root=root, split=split, images=images, max_pixels=max_pixels)


def make_scenes(root: Path, *, train_images: int = TRAIN_IMAGES, val_images: int = VAL_IMAGES, seed: int = 0) -> None:
    """Draw a set into ``root``, unless it is there already, and print its statistics.

    Raises `DataError` if the folder holds anything else; nothing is ever deleted.
    """
    root = Path(root)
    wanted = {"version": VERSION, "train_images": train_images, "val_images": val_images, "seed": seed}
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        _check_stamp(root, wanted)
        return
    partial_root = root.with_name(f"{root.name}.partial-{os.getpid()}")
    first = seed * _SEEDS_PER_SET
    splits = {
        "train2017": (1, [first + i for i in range(train_images)]),
        "val2017": (train_images + 1, [first + _FIRST_VAL_SEED + i for i in range(val_images)]),
    }
    try:
        with _mapping(train_images + val_images) as mapping:
            pictures = {name: _draw_split(mapping, partial_root, name, *split) for name, split in splits.items()}
        statistics = {name: _statistics(split) for name, split in pictures.items()}
        (partial_root / "statistics.json").write_text(json.dumps(statistics, indent=1))
        (partial_root / "scenes.json").write_text(json.dumps(wanted))
        if root.exists():
            root.rmdir()  # an empty folder
        os.replace(partial_root, root)
    except BrokenProcessPool as error:
        raise DataError(
            f"{root}: the processes that draw the scenes ended early: put what your script runs under "
            "if __name__ == '__main__':, or free some memory"
        ) from error
    except OSError as error:
        if not (root / "scenes.json").is_file():  # else another process was faster
            raise DataError(f"{root}: the scenes cannot be written there: {error.strerror}; set data.root=") from error
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)
    _check_stamp(root, wanted)
    print(_table(statistics))


def _check_stamp(root: Path, wanted: dict[str, int]) -> None:
    stamp = root / "scenes.json"
    if not stamp.is_file():
        raise DataError(f"{root} holds something else than the built-in scenes: name another folder with data.root=")
    try:
        found = json.loads(stamp.read_text())
    except ValueError as error:
        raise DataError(f"{stamp} is damaged: remove {root}, or name another folder with data.root=") from error
    if found != wanted:
        raise DataError(f"{root} holds other scenes than these: remove it, or name another folder with data.root=")


@contextmanager
def _mapping(images: int) -> Iterator[Callable[..., Iterable[_Picture]]]:
    """A ``map`` over as many processes as there are cores, or for a few pictures the built-in one."""
    if images <= _FEW_IMAGES:
        yield map
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
        yield partial(pool.map, chunksize=16)


def _draw_split(
    mapping: Callable[..., Iterable[_Picture]], root: Path, name: str, first_id: int, seeds: Sequence[int]
) -> list[_Picture]:
    """Draw the pictures of a split and write its annotations in both layouts."""
    voc = root / "VOCdevkit" / "VOC2012"
    for folder in (root / name, root / "annotations", voc / "Annotations", voc / "JPEGImages", voc / "ImageSets/Main"):
        folder.mkdir(parents=True, exist_ok=True)
    draw = partial(_draw_picture, root / name, voc / "JPEGImages")
    work = mapping(draw, range(first_id, first_id + len(seeds)), seeds)
    pictures = list(tqdm(work, total=len(seeds), desc=f"drawing {name}", unit="scene", mininterval=1))
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(_coco_document(pictures)))
    split = name.removesuffix("2017")
    for picture in pictures:
        (voc / "Annotations" / f"{picture.image_id:012d}.xml").write_text(_voc_document(picture))
    names = "".join(f"{picture.image_id:012d}\n" for picture in pictures)
    (voc / "ImageSets/Main" / f"{split}.txt").write_text(names)
    return pictures


def _draw_picture(folder: Path, second: Path, image_id: int, seed: int) -> _Picture:
    scene = draw_scene(seed)
    height, width = scene.instances.shape
    picture = _Picture(
        image_id=image_id,
        height=height,
        width=width,
        objects=scene.objects,
        segmentations=tuple(_segmentation(scene, index) for index in range(len(scene.objects))),
    )
    path = folder / picture.file_name
    _, data = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])
    path.write_bytes(data.tobytes())  # cv2.imwrite would not say that the disk is full
    try:
        os.link(path, second / picture.file_name)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, second / picture.file_name)
    return picture


def _segmentation(scene: Scene, index: int) -> Any:
    """COCO's: polygons around what can be seen; runs of pixels, column by column, for a crowd."""
    mask = (scene.instances == index + 1).astype(np.uint8)
    if scene.objects[index].crowd:
        return {"size": list(mask.shape), "counts": _run_lengths(mask)}
    return _polygons(mask)


def _polygons(mask: UInt8[np.ndarray, "H W"]) -> list[list[float]]:
    """Polygons that enclose the centres of the mask's pixels and of no others.

    A polygon has no hole, so a part with one is cut in two through it. Outlines are found at double size, where even a
    line of single pixels has an inside, and lie a quarter of a pixel within the mask.
    """
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    holes = [contour for contour, links in zip(contours, hierarchy[0], strict=True) if links[3] >= 0]
    if not holes:
        return [((contour.reshape(-1) + 0.5) / 2).tolist() for contour in contours]
    column = (int(holes[0][:, 0, 0].min()) + 2) // 2  # the hole's first: its outline lies on the pixels around it
    left, right = mask.copy(), mask.copy()
    left[:, column + 1 :] = 0
    right[:, : column + 1] = 0
    return _polygons(left) + _polygons(right)


def _run_lengths(mask: UInt8[np.ndarray, "H W"]) -> list[int]:
    """Lengths of alternating runs in column-major order, zeros first."""
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs: list[int] = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def _coco_document(pictures: Iterable[_Picture]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for picture in pictures:
        images.append(
            {"id": picture.image_id, "file_name": picture.file_name, "width": picture.width, "height": picture.height}
        )
        for thing, segmentation in zip(picture.objects, picture.segmentations, strict=True):
            x1, y1, x2, y2 = thing.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture.image_id,
                    "category_id": CLASSES[thing.label].category_id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": thing.area,
                    "iscrowd": int(thing.crowd),
                    "segmentation": segmentation,
                }
            )
    categories = [{"id": c.category_id, "name": c.name, "supercategory": c.shape} for c in CLASSES]
    info = {"description": "mbvision scenes", "version": str(VERSION)}
    return {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _voc_document(picture: _Picture) -> str:
    """VOC has no crowds: here they are difficult objects, which neither train nor count."""
    lines = [
        "<annotation>",
        f"\t<folder>VOC2012</folder>\n\t<filename>{escape(picture.file_name)}</filename>",
        f"\t<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>",
        "\t<segmented>0</segmented>",
    ]
    for thing in picture.objects:
        x1, y1, x2, y2 = thing.box
        lines.append(
            f"\t<object><name>{escape(CLASSES[thing.label].name)}</name><pose>Unspecified</pose>"
            f"<truncated>{int(thing.truncated)}</truncated><difficult>{int(thing.crowd)}</difficult>"
            f"<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def _statistics(pictures: Sequence[_Picture]) -> dict[str, float]:
    """What the set is like; shares are of pictures or of objects, crowds not among the objects."""
    objects = [(p, thing) for p in pictures for thing in p.objects if not thing.crowd]
    sides = np.array([[(t.box[2] - t.box[0]) / p.width, (t.box[3] - t.box[1]) / p.height] for p, t in objects])
    classes = np.bincount([thing.label for _, thing in objects], minlength=len(CLASSES))
    return {
        "pictures": len(pictures),
        "picture sizes": len({(p.height, p.width) for p in pictures}),
        "empty pictures, share": _share(not p.objects for p in pictures),
        "objects": len(objects),
        "most objects in a picture": max(sum(not t.crowd for t in p.objects) for p in pictures),
        "smallest side, of the picture's": float(sides.min()) if len(sides) else 0.0,
        "largest side, of the picture's": float(sides.max()) if len(sides) else 0.0,
        "small objects, share": _share(t.area < _SMALL_AREA for _, t in objects),
        "overlapped or cut off, share": _share(t.occluded or t.truncated for _, t in objects),
        "crowds": sum(thing.crowd for p in pictures for thing in p.objects),
        "classes": len(CLASSES),
        "rarest class, objects": int(classes.min()),
    }


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / max(1, len(found))


def _table(statistics: dict[str, dict[str, float]]) -> str:
    keys = list(next(iter(statistics.values())))
    lines = [f"{'scenes':<34}" + "".join(f"{name:>12}" for name in statistics)]
    for key in keys:
        cells = (
            f"{split[key]:>12.3f}" if isinstance(split[key], float) else f"{split[key]:>12}"
            for split in statistics.values()
        )
        lines.append(f"{key:<34}" + "".join(cells))
    return "\n".join(lines)
