"""Drawing one scene of `scenes` from its seed: what is in it, where, and which pixels show it."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from mbvision.data.scenes_painting import Stamp, paint_background, paint_object, photograph


class SceneClass(NamedTuple):
    """One class: its id in COCO files (with gaps, like COCO's own), its shape and its texture."""

    name: str
    category_id: int
    shape: str
    texture: str


CLASSES = (
    SceneClass("disc", 1, "disc", "plain"),
    SceneClass("striped_disc", 2, "disc", "striped"),
    SceneClass("square", 4, "square", "plain"),
    SceneClass("checkered_square", 7, "square", "checkered"),
    SceneClass("triangle", 8, "triangle", "plain"),
    SceneClass("star", 11, "star", "plain"),
    SceneClass("cross", 13, "cross", "plain"),
    SceneClass("ring", 16, "ring", "plain"),
)
class_names = tuple(scene_class.name for scene_class in CLASSES)

_SIZES = ((240, 320), (320, 240), (320, 320), (288, 384))  # (height, width)
_EMPTY = 0.13  # share of pictures without anything
_CROWDED = 0.08  # share of the others with a crowd
_OBJECT_COUNTS = np.array([10, 13, 14, 13, 11, 9, 8, 7, 6, 6]) / 97  # how often 1, 2, ... 10 objects are tried
_SIDE = (0.06, 0.6)  # of the picture's own side
_LEAST_VISIBLE = 0.25  # of an object's own area; less is not drawn
_TRIES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """One object, or one crowd. ``box`` (x1 y1 x2 y2) and ``area`` are those of the pixels that can be seen."""

    label: int
    box: tuple[int, int, int, int]
    area: int
    crowd: bool
    truncated: bool
    occluded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A picture and the truth about every pixel: ``instances`` is 0 for background and ``i + 1`` for ``objects[i]``.

    ``quality`` is that of the JPEG file it becomes.
    """

    image: UInt8[np.ndarray, "H W 3"]
    instances: UInt8[np.ndarray, "H W"]
    objects: tuple[SceneObject, ...]
    quality: int


class _Canvas:
    """A picture under construction: later objects hide earlier ones."""

    def __init__(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        self.image = image
        self.instances = np.zeros(image.shape[:2], dtype=np.uint8)
        self.labels: list[int] = []
        self.own_areas: list[int] = []  # of the whole object, hidden and cut off parts included
        self.inside_areas: list[int] = []  # of the part inside the picture, hidden parts included
        self.crowds: list[bool] = []

    def window(self, stamp: Stamp, left: int, top: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The rows and columns of the picture that the stamp falls on, and those of the stamp."""
        height, width = self.image.shape[:2]
        rows, columns = stamp.alpha.shape
        y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + rows, height), min(left + columns, width)
        return (slice(y1, y2), slice(x1, x2)), (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))

    def stick(self, stamp: Stamp, left: int, top: int, instance: int) -> None:
        """Paint the stamp over what is there, in colour and as ``instance``."""
        there, here = self.window(stamp, left, top)
        opacity = stamp.alpha[here].astype(np.float32) / 255
        self.image[there] = cv2.blendLinear(stamp.colours[here], self.image[there], opacity, 1 - opacity)
        self.instances[there][stamp.alpha[here] > 127] = instance

    def add(self, stamps: list[tuple[Stamp, int, int]], label: int, *, crowd: bool) -> None:
        """Add one object (or a crowd of many stamps) on top."""
        for stamp, left, top in stamps:
            self.stick(stamp, left, top, len(self.labels) + 1)
        inside = int(np.count_nonzero(self.instances == len(self.labels) + 1))
        whole = sum(int(np.count_nonzero(stamp.alpha > 127)) for stamp, _, _ in stamps)
        self.labels.append(label)
        self.crowds.append(crowd)
        self.own_areas.append(inside if crowd else whole)
        self.inside_areas.append(inside)

    def fits(self, stamp: Stamp, left: int, top: int, *, free: bool) -> bool:
        """Whether the object, once added, leaves itself and all others visible enough; ``free``: hiding no other."""
        there, here = self.window(stamp, left, top)
        solid = stamp.alpha[here] > 127
        whole = int(np.count_nonzero(stamp.alpha > 127))
        if np.count_nonzero(solid) < _LEAST_VISIBLE * whole or not _wide_enough(solid, self.instances.shape):
            return False
        hit = np.bincount(self.instances[there][solid], minlength=1)
        hidden = np.flatnonzero(hit[1:])
        if free or not len(hidden):
            return not len(hidden)
        trial = self.instances.copy()
        trial[there][solid] = 255
        return all(self._still_shows(trial, int(index)) for index in hidden)

    def _still_shows(self, instances: UInt8[np.ndarray, "H W"], index: int) -> bool:
        visible = instances == index + 1
        if np.count_nonzero(visible) < _LEAST_VISIBLE * self.own_areas[index]:
            return False
        return self.crowds[index] or _wide_enough(visible, visible.shape)

    def objects(self) -> tuple[SceneObject, ...]:
        """What is in the picture, in the order in which it was added."""
        found = []
        for index, label in enumerate(self.labels):
            visible = (self.instances == index + 1).view(np.uint8)
            x, y, width, height = cv2.boundingRect(visible)
            area = cv2.countNonZero(visible)
            found.append(
                SceneObject(
                    label=label,
                    box=(x, y, x + width, y + height),
                    area=area,
                    crowd=self.crowds[index],
                    truncated=self.inside_areas[index] < self.own_areas[index],
                    occluded=area < self.inside_areas[index],
                )
            )
        return tuple(found)


def _wide_enough(visible: np.ndarray, picture: tuple[int, ...]) -> bool:
    """Whether both sides of what is visible are at least 6 % of the picture's."""
    _, _, width, height = cv2.boundingRect(visible.view(np.uint8))
    return height >= _SIDE[0] * picture[0] and width >= _SIDE[0] * picture[1]


def draw_scene(seed: int) -> Scene:
    """The scene that belongs to a seed, always the same."""
    rng = np.random.default_rng(seed)
    height, width = _SIZES[rng.integers(len(_SIZES))]
    canvas = _Canvas(paint_background(height, width, rng))
    if rng.random() >= _EMPTY:
        if rng.random() < _CROWDED:
            _add_crowd(canvas, rng)
        for _ in range(1 + int(rng.choice(len(_OBJECT_COUNTS), p=_OBJECT_COUNTS))):
            _add_object(canvas, rng)
    return Scene(
        image=photograph(canvas.image, rng),
        instances=canvas.instances,
        objects=canvas.objects(),
        quality=int(rng.integers(85, 96)),
    )


def _add_object(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Add an object of a random class and size: often alone, sometimes over another or across the picture's edge."""
    height, width = canvas.image.shape[:2]
    label = int(rng.integers(len(CLASSES)))
    low, high = _SIDE[0] * max(height, width) + 1, _SIDE[1] * min(height, width)
    side = math.exp(rng.uniform(math.log(low), math.log(high)) + abs(rng.normal(0, 0.1)))
    side = min(side, high - 3)  # soft edges add up to three pixels
    where = rng.choice(3, p=(0.62, 0.2, 0.18))
    stamp = None
    for _ in range(_TRIES):
        if where == 2 and canvas.labels:
            centre = _beside_another(canvas, side, rng)
        elif where == 1:
            centre = _across_the_edge(height, width, side, rng)
        else:
            centre = side / 2 + rng.random(2) * (np.array([width, height]) - side - 2)
        centre = np.clip(centre, 1, (width - 1, height - 1))
        if stamp is None:
            (x, y), r = centre.astype(int), round(side / 2)
            backdrop = np.array(cv2.mean(canvas.image[max(y - r, 0) : y + r, max(x - r, 0) : x + r])[:3])
            stamp = paint_object(CLASSES[label].shape, CLASSES[label].texture, side=side, backdrop=backdrop, rng=rng)
        left, top = (round(c - n / 2) for c, n in zip(centre, reversed(stamp.alpha.shape), strict=True))
        if canvas.fits(stamp, left, top, free=where != 2):
            canvas.add([(stamp, left, top)], label, crowd=False)
            return


def _beside_another(canvas: _Canvas, side: float, rng: np.random.Generator) -> np.ndarray:
    """A centre at which an object of this side hides a part of one that is there."""
    other = canvas.instances == 1 + rng.integers(len(canvas.labels))
    x, y, width, height = cv2.boundingRect(other.view(np.uint8))
    angle = rng.uniform(0, 2 * math.pi)
    reach = rng.uniform(0.5, 1) * (side + math.sqrt(width * height)) / 2
    return np.array([x + width / 2 + reach * math.cos(angle), y + height / 2 + reach * math.sin(angle)])


def _across_the_edge(height: int, width: int, side: float, rng: np.random.Generator) -> np.ndarray:
    """A centre at which an object of this side is cut off by one edge of the picture."""
    centre = rng.random(2) * (width, height)
    axis, far = rng.integers(2), rng.integers(2)
    overhang = side * rng.uniform(-0.2, 0.45)
    centre[axis] = (width, height)[axis] - overhang if far else overhang
    return centre


def _add_crowd(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Add a tight group of many tiny objects of one class, in a few colours."""
    height, width = canvas.image.shape[:2]
    scene_class = CLASSES[label := int(rng.integers(len(CLASSES)))]
    side = rng.uniform(0.028, 0.045) * min(height, width)
    rows, columns = int(rng.integers(3, 6)), int(rng.integers(4, 9))
    corner = rng.random(2) * (width - columns * side - 4, height - rows * side - 4)
    backdrop = np.array(cv2.mean(canvas.image)[:3])
    stamps = []
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.85:
                place = corner + side * (np.array([column, row]) + rng.uniform(-0.15, 0.15, 2))
                stamp = paint_object(scene_class.shape, scene_class.texture, side=side, backdrop=backdrop, rng=rng)
                stamps.append((stamp, int(place[0]), int(place[1])))
    canvas.add(stamps, label, crowd=True)
