"""How a scene is written down: COCO's and VOC's annotations, and masks as VOC's and Cityscapes' files hold them.

The eight classes follow background in VOC masks; in Cityscapes' they have the ids of its people and vehicles on a
road. A crowd is ignored in both. VOC masks have no border of 255: every pixel of a scene is known.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mbvision.data.masks import voc_palette
from mbvision.data.scenes_drawing import CLASSES, Scene, SceneObject
from mbvision.structures import IGNORE

VERSION = 2

VOC_FOLDER = "VOCdevkit/VOC2012"
CITYSCAPES_FOLDER = "cityscapes"
CITYSCAPES_IDS = (7, 24, 25, 26, 27, 28, 31, 32, 33)
"""Road for background, then person, rider, car, truck, bus, train, motorcycle, bicycle for the classes in order."""

_CITYSCAPES_UNLABELED = 0
_CITY = "scenes"
_PALETTE = [value for colour in voc_palette(256) for value in colour]
_COMPRESSION = 1  # zlib's fastest: masks are flat, so little is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the annotation files need of a scene."""

    image_id: int
    height: int
    width: int
    objects: tuple[SceneObject, ...]
    segmentations: tuple[Any, ...]

    @property
    def file_name(self) -> str:
        """Of the JPEG file, in every layout but Cityscapes'."""
        return f"{self.image_id:012d}.jpg"


def labelmap() -> str:
    """VOC masks' classes with their colours, as CVAT writes them."""
    names = ("background", *(c.name for c in CLASSES))
    colours = voc_palette(len(names))
    lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(names, colours, strict=True)]
    return "\n".join(["# label:color_rgb:parts:actions", *lines, ""])


def make_folders(root: Path, name: str) -> None:
    """The folders of a split (``train2017``), so that `write_picture` can write into them from many processes."""
    split, voc = name.removesuffix("2017"), root / VOC_FOLDER
    cities = root / CITYSCAPES_FOLDER
    for folder in (
        root / name,
        root / "annotations",
        *(voc / sub for sub in ("Annotations", "JPEGImages", "SegmentationClass")),
        *(voc / "ImageSets" / sub for sub in ("Main", "Segmentation")),
        *(cities / sub / split / _CITY for sub in ("leftImg8bit", "gtFine")),
    ):
        folder.mkdir(parents=True, exist_ok=True)


def write_picture(root: Path, name: str, scene: Scene, picture: "Picture") -> None:
    """The JPEG file, once on the disk where that can link, and the masks."""
    split, city = name.removesuffix("2017"), root / CITYSCAPES_FOLDER
    stem = f"{_CITY}_000000_{picture.image_id:06d}"
    path = root / name / picture.file_name
    _, data = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])
    path.write_bytes(data.tobytes())  # cv2.imwrite would not say that the disk is full
    _link(path, root / VOC_FOLDER / "JPEGImages" / picture.file_name)
    _link(path, city / "leftImg8bit" / split / _CITY / f"{stem}_leftImg8bit.jpg")
    voc = Image.fromarray(mask_values(scene, range(len(CLASSES) + 1), crowd=IGNORE))
    voc.putpalette(_PALETTE)
    voc.save(root / VOC_FOLDER / "SegmentationClass" / f"{picture.image_id:012d}.png", compress_level=_COMPRESSION)
    ids = Image.fromarray(mask_values(scene, CITYSCAPES_IDS, crowd=_CITYSCAPES_UNLABELED))
    ids.save(city / "gtFine" / split / _CITY / f"{stem}_gtFine_labelIds.png", compress_level=_COMPRESSION)


def mask_values(scene: Scene, values: Sequence[int], *, crowd: int) -> UInt8[np.ndarray, "H W"]:
    """The value of each pixel: ``values[0]`` is background, ``values[1 + label]`` an object, ``crowd`` a crowd."""
    table = [values[0], *(crowd if thing.crowd else values[1 + thing.label] for thing in scene.objects)]
    pixels: UInt8[np.ndarray, "H W"] = np.array(table, dtype=np.uint8)[scene.instances]
    return pixels


def _link(path: Path, second: Path) -> None:
    try:
        os.link(path, second)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, second)


def segmentation(scene: Scene, index: int) -> Any:
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


def coco_document(pictures: Iterable[Picture]) -> dict[str, Any]:
    """The instances file of a split."""
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


def voc_document(picture: Picture) -> str:
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
