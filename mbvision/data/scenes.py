"""The built-in data set: drawn scenes, written to disk as COCO 2017, the VOC devkit and Cityscapes are, and so read.

A box is the tight box of what can be seen of an object; ``area`` counts those pixels, and its polygons enclose exactly
them. Training and validation scenes come from disjoint ranges of seeds. A set is drawn once: ``scenes.json`` in its
folder says what it was drawn with.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mbvision.data.boxes import BoxReader
from mbvision.data.coco import coco
from mbvision.data.images import MAX_PIXELS
from mbvision.data.masks import MaskReader
from mbvision.data.scenes_drawing import CLASSES, draw_scene
from mbvision.data.scenes_layouts import (
    VERSION,
    VOC_FOLDER,
    Picture,
    coco_document,
    labelmap,
    make_folders,
    segmentation,
    voc_document,
    write_picture,
)
from mbvision.data.voc_masks import voc_masks
from mbvision.errors import DataError
from mbvision.stopping import end_with_parent, ignore
from mbvision.writing import temporary_folder

TRAIN_IMAGES, VAL_IMAGES = 4000, 500
_SEEDS_PER_SET = 10_000_000
_FIRST_VAL_SEED = 5_000_000
_FEW_IMAGES = 200
"""So few are drawn here sooner than other processes are started."""

_SMALL_AREA = 32**2
"""COCO's limit of a small object, in pixels."""


def scenes(*, root: str, split: str, images: str | None = None, max_pixels: int = MAX_PIXELS) -> BoxReader:
    """The reader of a split (train2017, val2017) of the set in ``root``, which is drawn first if it is not there."""
    make_scenes(Path(root))
    return coco(root=root, split=split, images=images, max_pixels=max_pixels)


def scenes_masks(*, root: str, split: str, images: str | None = None, max_pixels: int = MAX_PIXELS) -> MaskReader:
    """The same split with a label for each pixel: background, then the classes; crowds are ignored."""
    make_scenes(Path(root))
    base = Path(images or root)
    folder = base / split if (base / split).is_dir() else base
    return voc_masks(root=root, split=split.removesuffix("2017"), images=folder, max_pixels=max_pixels)


def make_scenes(root: Path, *, train_images: int = TRAIN_IMAGES, val_images: int = VAL_IMAGES, seed: int = 0) -> None:
    """Draw a set into ``root``, unless it is there already, and print its statistics.

    Raises `DataError` if the folder holds anything else; nothing is ever deleted.
    """
    root = Path(root)
    wanted = {"version": VERSION, "train_images": train_images, "val_images": val_images, "seed": seed}
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        _check_stamp(root, wanted)
        return
    first = seed * _SEEDS_PER_SET
    splits = {
        "train2017": (1, [first + i for i in range(train_images)]),
        "val2017": (train_images + 1, [first + _FIRST_VAL_SEED + i for i in range(val_images)]),
    }
    try:
        with temporary_folder(root) as new:
            with _mapping(train_images + val_images) as mapping:
                pictures = {name: _draw_split(mapping, new, name, *split) for name, split in splits.items()}
            statistics = {name: _statistics(split) for name, split in pictures.items()}
            (new / "statistics.json").write_text(json.dumps(statistics, indent=1), encoding="utf-8")
            (new / "scenes.json").write_text(json.dumps(wanted), encoding="utf-8")
            if root.exists():
                root.rmdir()  # an empty folder
            os.replace(new, root)
    except BrokenProcessPool as error:
        raise DataError(
            f"{root}: the processes that draw the scenes ended early: put what your script runs under "
            "if __name__ == '__main__':, or free some memory"
        ) from error
    except OSError as error:
        if not (root / "scenes.json").is_file():  # else another process was faster
            raise DataError(f"{root}: the scenes cannot be written there: {error.strerror}; set data.root=") from error
    _check_stamp(root, wanted)
    print(_table(statistics))


def _check_stamp(root: Path, wanted: dict[str, int]) -> None:
    stamp = root / "scenes.json"
    if not stamp.is_file():
        raise DataError(f"{root} holds something else than the built-in scenes: name another folder with data.root=")
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{stamp} is damaged: remove {root}, or name another folder with data.root=") from error
    if isinstance(found, dict) and found.get("version") == 1:
        raise DataError(
            f"{root} holds the scenes of an earlier version, which had no masks: remove that folder, and the same "
            "pictures are drawn anew, with masks"
        )
    if found != wanted:
        raise DataError(f"{root} holds other scenes than these: remove it, or name another folder with data.root=")


@contextmanager
def _mapping(images: int) -> Iterator[Callable[..., Iterable[Picture]]]:
    """A ``map`` over as many processes as there are cores, or for a few pictures the built-in one."""
    if images <= _FEW_IMAGES:
        yield map
        return
    pool = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=start_helper)
    try:
        yield partial(pool.map, chunksize=16)
    finally:
        pool.shutdown(cancel_futures=True)  # of what was not begun when a signal or a full disk stops the drawing


def start_helper() -> None:
    """In a process that draws: use one thread, leave signals to the process that started it, and end with that."""
    cv2.setNumThreads(0)
    ignore()
    end_with_parent()


def _draw_split(
    mapping: Callable[..., Iterable[Picture]], root: Path, name: str, first_id: int, seeds: Sequence[int]
) -> list[Picture]:
    """Draw the pictures of a split and write its annotations in all layouts."""
    make_folders(root, name)
    work = mapping(partial(_draw_picture, root, name), range(first_id, first_id + len(seeds)), seeds)
    pictures = list(tqdm(work, total=len(seeds), desc=f"drawing {name}", unit="scene", mininterval=1))
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(coco_document(pictures)), encoding="utf-8")
    split, voc = name.removesuffix("2017"), root / VOC_FOLDER
    for picture in pictures:
        (voc / "Annotations" / f"{picture.image_id:012d}.xml").write_text(voc_document(picture), encoding="utf-8")
    names = "".join(f"{picture.image_id:012d}\n" for picture in pictures)
    for kind in ("Main", "Segmentation"):
        (voc / "ImageSets" / kind / f"{split}.txt").write_text(names, encoding="utf-8")
    (voc / "labelmap.txt").write_text(labelmap(), encoding="utf-8")
    return pictures


def _draw_picture(root: Path, name: str, image_id: int, seed: int) -> Picture:
    scene = draw_scene(seed)
    height, width = scene.instances.shape
    picture = Picture(
        image_id=image_id,
        height=height,
        width=width,
        objects=scene.objects,
        segmentations=tuple(segmentation(scene, index) for index in range(len(scene.objects))),
    )
    write_picture(root, name, scene, picture)
    return picture


def _statistics(pictures: Sequence[Picture]) -> dict[str, float]:
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
