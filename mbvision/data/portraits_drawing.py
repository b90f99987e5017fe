"""Drawing one face of `portraits`: who it is, what can be said of it, and what differs from picture to picture.

An identity is a handful of continuous numbers, all drawn from its generator, so that no two are alike. Its pictures
differ in pose, expression, accessories, clothes, light, background and what stands in front of the face. Coordinates
are those of a face whose half width is about 1, x right and y down, around the point between eyes and nose.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from mbvision.data.scenes_painting import paint_background, photograph, random_colours

ATTRIBUTES = (
    "Beard",
    "Dark_Hair",
    "Earrings",
    "Glasses",
    "Hat",
    "Long_Hair",
    "Round_Face",
    "Smiling",
)
SIDE = 96
"""Pixels of a picture's sides."""

_FRACTION_BITS = 4  # OpenCV takes polygons in fixed point
_DARK = 0.42  # hair whose lightness (0..1) is below that is dark; none is drawn near it
_ROUND = 0.85  # half the width of a face over half its height; none is drawn near it
_HIDDEN = 0.12  # share of the pictures in which something stands in front of the face
_HABIT, _WHIM = 0.75, 0.15  # how often somebody with a habit wears the thing, and anybody else

Points = np.ndarray
Colour = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What stays the same in all pictures of somebody. Lengths are in half face widths, colours RGB in 0..255."""

    skin: Colour
    hair: Colour
    iris: Colour
    dark_hair: bool
    long_hair: bool
    beard: bool
    round_face: bool
    height: float
    jaw: float
    eye_distance: float
    eye_size: float
    eye_tilt: float
    eye_level: float
    brow_thickness: float
    brow_level: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    mouth_level: float
    mouth_width: float
    lips: float
    hair_volume: float
    fringe: float
    parting: float
    ears: float
    mole: tuple[float, float]
    habits: tuple[bool, bool, bool]
    """Whether earrings, glasses and hats are worn often."""


class Portrait(NamedTuple):
    """A picture and its attributes, in the order of `ATTRIBUTES`."""

    image: UInt8[np.ndarray, "96 96 3"]
    attributes: tuple[bool, ...]


def draw_identity(rng: np.random.Generator) -> Identity:
    """Somebody new."""
    u = rng.uniform
    dark, round_face = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    lightness = u(0.05, _DARK - 0.12) if dark else u(_DARK + 0.12, 1.0)
    width_over_height = u(_ROUND + 0.05, 1.0) if round_face else u(0.66, _ROUND - 0.05)
    tone, warmth = u(0, 1), u(-1, 1)
    skin = np.array([250, 220, 195]) * (1 - tone) + np.array([115, 75, 50]) * tone + warmth * np.array([6, -2, -10])
    hue = np.array([1.0, u(0.55, 0.95), u(0.2, 0.75)])
    return Identity(
        skin=skin.clip(0, 255),
        hair=(235 * lightness * hue).clip(0, 255),
        iris=random_colours(1, rng)[0] * 0.8,
        dark_hair=dark,
        long_hair=bool(rng.random() < 0.5),
        beard=bool(rng.random() < 0.35),
        round_face=round_face,
        height=1 / width_over_height,
        jaw=u(0.55, 0.95),
        eye_distance=u(0.34, 0.54),
        eye_size=u(0.11, 0.2),
        eye_tilt=u(-0.25, 0.25),
        eye_level=u(-0.28, -0.05),
        brow_thickness=u(0.04, 0.13),
        brow_level=u(0.2, 0.34),
        brow_tilt=u(-0.35, 0.35),
        nose_length=u(0.3, 0.55),
        nose_width=u(0.08, 0.24),
        mouth_level=u(0.52, 0.7),
        mouth_width=u(0.22, 0.42),
        lips=u(0.04, 0.12),
        hair_volume=u(0.06, 0.34),
        fringe=u(0.2, 0.62),
        parting=u(-0.6, 0.6),
        ears=u(0.08, 0.22),
        mole=(u(-0.6, 0.6), u(0.1, 0.4)),
        habits=(bool(rng.random() < 0.4), bool(rng.random() < 0.4), bool(rng.random() < 0.3)),
    )


def draw_portrait(who: Identity, rng: np.random.Generator) -> Portrait:
    """One picture of somebody."""
    earrings, glasses, hat = (bool(rng.random() < (_HABIT if often else _WHIM)) for often in who.habits)
    smiling = bool(rng.random() < 0.5)
    image = paint_background(SIDE, SIDE, rng)
    brush = _Brush(image, _pose(rng))
    _draw_back(brush, who, rng)
    _draw_face(brush, who)
    _draw_features(brush, who, smiling, rng)
    _draw_hair(brush, who)
    if earrings:
        _draw_earrings(brush, who, rng)
    if glasses:
        _draw_glasses(brush, who, rng)
    if hat:
        _draw_hat(brush, who, rng)
    if rng.random() < _HIDDEN:
        _draw_obstacle(brush, rng)
    has = (who.beard, who.dark_hair, earrings, glasses, hat, who.long_hair, who.round_face, smiling)
    return Portrait(photograph(image, rng), has)


def _pose(rng: np.random.Generator) -> Points:
    """An affine map (2x3) from face coordinates to pixels: turned, moved, nearer or farther, a little sideways."""
    angle, scale = rng.normal(0, 0.1), SIDE * rng.uniform(0.23, 0.29)
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    sideways = np.array([[rng.uniform(0.94, 1.0), rng.normal(0, 0.04)], [0.0, 1.0]])
    centre = SIDE * np.array([0.5, 0.5]) + rng.normal(0, 0.03 * SIDE, 2)
    return np.concatenate([scale * turned @ sideways, centre[:, None]], axis=1)


class _Brush:
    """Draws polygons and lines of face coordinates onto a picture."""

    def __init__(self, image: UInt8[np.ndarray, "H W 3"], pose: Points) -> None:
        self.image, self.pose = image, pose

    def pixels(self, points: Points) -> Points:
        """Face coordinates in OpenCV's fixed point."""
        placed = points @ self.pose[:, :2].T + self.pose[:, 2]
        return np.round(placed * 2**_FRACTION_BITS).astype(np.int32)

    def fill(self, points: Points, colour: Colour) -> None:
        """A filled polygon."""
        cv2.fillPoly(self.image, [self.pixels(points)], colour.tolist(), cv2.LINE_AA, _FRACTION_BITS)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """An open line; its width is in half face widths."""
        thickness = max(1, round(width * float(np.linalg.norm(self.pose[:, 1]))))
        line = [self.pixels(points)]
        cv2.polylines(self.image, line, False, colour.tolist(), thickness, cv2.LINE_AA, _FRACTION_BITS)


def _ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, start: float = 0, end: float = 360) -> Points:
    """Points around an ellipse, from ``start`` to ``end`` degrees: 0 is right, 90 is down."""
    angles = np.radians(np.linspace(start, end, 33))
    flat = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1)
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    return flat @ turn + (x, y)


def _outline(who: Identity, grow: float = 0.0) -> Points:
    """The face: half an ellipse above, a squarer jaw below."""
    angles = np.radians(np.linspace(0, 360, 65))
    x, y = np.cos(angles), np.sin(angles)
    power = np.where(y > 0, 1 - 0.45 * who.jaw, 1.0)
    x = np.sign(x) * np.abs(x) ** power
    return np.stack([x * (1 + grow), y * (who.height + grow)], axis=1)


def _draw_back(brush: _Brush, who: Identity, rng: np.random.Generator) -> None:
    """Long hair behind, shoulders, neck."""
    if who.long_hair:
        side = 1.05 + who.hair_volume
        brush.fill(_ellipse(0, 0.35, side, who.height + 0.75), who.hair * 0.85)
    shirt = random_colours(1, rng)[0]
    brush.fill(_ellipse(0, who.height + 1.35, 1.75, 1.0), shirt)
    brush.fill(
        np.array([[-0.42, 0.5], [0.42, 0.5], [0.5, who.height + 0.55], [-0.5, who.height + 0.55]]), who.skin * 0.82
    )


def _draw_face(brush: _Brush, who: Identity) -> None:
    for side in (-1, 1):
        brush.fill(_ellipse(side * 1.0, 0.05, who.ears, 0.24), who.skin * 0.9)
    brush.fill(_outline(who), who.skin)
    cheeks = who.skin * np.array([1.0, 0.9, 0.9])
    for side in (-1, 1):
        brush.fill(_ellipse(side * 0.55, 0.38, 0.2, 0.14), cheeks)
    if who.beard:
        beard = who.hair * 0.8 + who.skin * 0.12
        jaw = _outline(who, 0.02)
        lower = jaw[jaw[:, 1] > who.height * 0.28]
        chin = _ellipse(0, who.mouth_level, who.mouth_width + 0.12, 0.2, 0, 180, 360)
        brush.fill(np.concatenate([lower, chin]), beard.clip(0, 255))


def _draw_features(brush: _Brush, who: Identity, smiling: bool, rng: np.random.Generator) -> None:
    gaze, opening = rng.normal(0, 0.02, 2), rng.uniform(0.5, 0.75)
    for side in (-1, 1):
        x, y = side * who.eye_distance, who.eye_level
        tilt = side * who.eye_tilt
        brush.fill(_ellipse(x, y, who.eye_size, who.eye_size * opening, tilt), np.array([245.0, 245, 245]))
        brush.fill(_ellipse(x + gaze[0], y + gaze[1], who.eye_size * 0.5, who.eye_size * 0.5), who.iris)
        brush.fill(_ellipse(x + gaze[0], y + gaze[1], who.eye_size * 0.22, who.eye_size * 0.22), np.zeros(3))
        level, drop = y - who.brow_level + rng.normal(0, 0.015), side * who.brow_tilt * 0.17
        ends = np.array([[x - 0.17, level + drop], [x + 0.17, level - drop]])
        brush.line(ends, who.hair * 0.6, who.brow_thickness)
    shade, bottom = who.skin * 0.72, who.eye_level + who.nose_length
    nose = np.array([[-0.03, who.eye_level + 0.1], [-who.nose_width, bottom], [who.nose_width, bottom]])
    brush.line(nose, shade, 0.045)
    brush.fill(_ellipse(who.mole[0], who.mole[1], 0.045, 0.045), who.skin * 0.4)
    _draw_mouth(brush, who, smiling, rng)


def _draw_mouth(brush: _Brush, who: Identity, smiling: bool, rng: np.random.Generator) -> None:
    """A smile is a bow with teeth; else the mouth is nearly straight, or its corners hang."""
    lips = who.skin * np.array([0.85, 0.5, 0.5])
    width = who.mouth_width * (1.15 if smiling else 0.95)
    if smiling:
        depth = rng.uniform(0.2, 0.3)
        brush.fill(_ellipse(0, who.mouth_level - 0.06, width, depth, 0, 0, 180), lips * 0.8)
        brush.fill(
            _ellipse(0, who.mouth_level - 0.06, width * 0.82, depth * 0.55, 0, 0, 180), np.array([240.0, 240, 235])
        )
    else:
        sag = rng.uniform(0.0, 0.07)
        brush.line(_ellipse(0, who.mouth_level + sag, width, sag + 0.01, 0, 180, 360), lips, who.lips)


def _draw_hair(brush: _Brush, who: Identity) -> None:
    """The cap of hair; its lower edge is the fringe, which parts to one side."""
    above = _ellipse(0, -0.1, 1.02 + who.hair_volume * 0.6, who.height - 0.1 + who.hair_volume, 0, 180, 360)
    edge = -who.height + who.fringe
    fringe = np.array([[0.98, -0.1], [0.8, edge + 0.22], [who.parting, edge], [-0.8, edge + 0.22], [-0.98, -0.1]])
    brush.fill(np.concatenate([above, fringe]), who.hair)
    if who.long_hair:
        for side in (-1, 1):
            outer = side * (1.05 + who.hair_volume)
            lock = np.array(
                [[side * 0.82, -0.5], [outer, -0.3], [outer, who.height + 0.6], [side * 0.92, who.height + 0.5]]
            )
            brush.fill(lock, who.hair)


def _draw_earrings(brush: _Brush, who: Identity, rng: np.random.Generator) -> None:
    metal = np.array([[250.0, 215, 60], [235, 235, 245], [230, 60, 90]])[rng.integers(3)]
    size = rng.uniform(0.1, 0.15)
    for side in (-1, 1):
        brush.fill(_ellipse(side * (1.0 + who.ears * 0.5), 0.38, size, size * 1.4), metal)


def _draw_glasses(brush: _Brush, who: Identity, rng: np.random.Generator) -> None:
    frame, radius = rng.uniform(0, 90, 3), rng.uniform(0.25, 0.32)
    height = radius * rng.uniform(0.7, 1.0)
    for side in (-1, 1):
        x = side * max(who.eye_distance, radius + 0.05)
        brush.line(_ellipse(x, who.eye_level, radius, height), frame, 0.08)
        brush.line(np.array([[x + side * radius, who.eye_level], [side * 1.0, who.eye_level - 0.05]]), frame, 0.06)
    brush.line(np.array([[-0.12, who.eye_level - 0.03], [0.12, who.eye_level - 0.03]]), frame, 0.07)


def _draw_hat(brush: _Brush, who: Identity, rng: np.random.Generator) -> None:
    """Down to the middle of the forehead, with a brim and a band."""
    colour, band = random_colours(2, rng)
    level = -who.height + rng.uniform(0.25, 0.4)
    top = level - rng.uniform(0.55, 0.9)
    wide = 1.05 + who.hair_volume * 0.6
    crown = np.array([[-wide, level], [-wide * 0.8, top], [wide * 0.8, top], [wide, level]])
    brush.fill(crown, colour)
    brush.fill(np.array([[-wide, level], [-wide, level - 0.2], [wide, level - 0.2], [wide, level]]), band)
    brush.fill(_ellipse(0, level, wide * rng.uniform(1.15, 1.4), 0.12), colour * 0.8)


def _draw_obstacle(brush: _Brush, rng: np.random.Generator) -> None:
    """A blob of any colour over a part of the face."""
    x, y = rng.uniform(-0.9, 0.9), rng.uniform(-0.6, 1.0)
    blob = _ellipse(x, y, rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.5), rng.uniform(0, 3))
    brush.fill(blob, random_colours(1, rng)[0])
