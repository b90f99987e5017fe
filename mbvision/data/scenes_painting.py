"""How the pictures of `scenes` are painted: backgrounds, shapes, textures, and what a camera does to them.

Everything is a function of its generator. Images are ``uint8 [H, W, 3]`` RGB, colours float RGB in 0..255. Shapes are
polygons around the origin (x right, y down), so that an outline and the texture inside it turn and stretch together.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Polygon = Float[np.ndarray, "P 2"]

_FRACTION_BITS = 4  # OpenCV takes polygons in fixed point


class Stamp(NamedTuple):
    """A painted object that is not yet in a picture: its colours, and how opaque each pixel is (0 to 255)."""

    colours: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"]


# --- colours


def random_colours(count: int, rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
    """Colours of any hue, mostly strong ones; one in six is grey."""
    hue, saturation, value = rng.random((3, count, 1))
    saturation = np.where(rng.random((count, 1)) < 1 / 6, 0.0, 0.35 + 0.65 * saturation)
    pure = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return 255 * (0.25 + 0.75 * value) * (1 - saturation * (1 - pure))


def colour_unlike(others: Float[np.ndarray, "K 3"], distance: float, rng: np.random.Generator) -> np.ndarray:
    """A random colour at least ``distance`` (in RGB) from each of ``others``, or else the farthest one found."""
    candidates = random_colours(16, rng)
    nearest = np.linalg.norm(candidates[:, None] - others, axis=2).min(axis=1)
    good = np.flatnonzero(nearest >= distance)
    return candidates[good[0] if len(good) else nearest.argmax()]


# --- backgrounds


def _noise(height: int, width: int, cells: tuple[int, int], rng: np.random.Generator) -> UInt8[np.ndarray, "H W"]:
    """Random values on a grid of ``cells`` (rows, columns), smoothly enlarged to the picture."""
    grid = rng.integers(0, 256, cells, dtype=np.uint8)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _clouds(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W"]:
    """Noise of several coarsenesses, one over another."""
    relief = _noise(height, width, (3, 4), rng)
    for cells in (7, 16, 40):
        share = rng.uniform(0.1, 0.4)
        relief = cv2.addWeighted(relief, 1 - share, _noise(height, width, (cells, cells), rng), share, 0)
    return relief


def _grain(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W"]:
    """Fibres along one axis, like wood or grass."""
    fine, long = int(rng.integers(60, 120)), int(rng.integers(4, 14))
    cells = (fine, long) if rng.random() < 0.5 else (long, fine)
    return cv2.addWeighted(_noise(height, width, cells, rng), 0.5, _noise(height, width, (3, 3), rng), 0.5, 0)


def _stones(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W"]:
    """Irregular cells, each of one value."""
    count = int(rng.integers(10, 70))
    seeds = np.full((height, width), 255, dtype=np.uint8)
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    _, cells = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    return rng.integers(0, 256, count + 1, dtype=np.uint8)[cells]


def _slope(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W"]:
    """A plain gradient with a little grain."""
    corners = rng.integers(0, 256, (2, 2), dtype=np.uint8)
    slope = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(slope, 0.85, _noise(height, width, (height // 3, width // 3), rng), 0.15, 0)


def _straw(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W"]:
    """Many crossing lines."""
    relief = _noise(height, width, (3, 3), rng)
    for value in rng.integers(0, 256, 6):
        ends = rng.integers(-40, max(height, width) + 40, (int(rng.integers(4, 16)), 2, 2)).astype(np.int32)
        cv2.polylines(relief, list(ends), False, int(value), int(rng.integers(1, 5)), cv2.LINE_AA)
    return relief


_RELIEFS = (_clouds, _grain, _stones, _slope, _straw)


def paint_background(height: int, width: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """A textured background of a few related colours with clutter on it: lines and ragged blobs, which are no class."""
    relief = _RELIEFS[rng.integers(len(_RELIEFS))](height, width, rng)
    base = random_colours(1, rng)[0] * 0.55 + rng.uniform(10, 110)
    stops = np.clip(base + rng.normal(0, rng.uniform(10, 38), (3, 3)), 0, 255)
    steps = np.linspace(0, 2, 256)
    table = np.stack([np.interp(steps, [0, 1, 2], stops[:, channel]) for channel in range(3)], axis=1)
    image = np.take(table.astype(np.uint8), relief, axis=0)
    for _ in range(int(rng.integers(0, 8))):
        _scribble(image, base, rng)
    sigma = rng.uniform(0.3, 2.0)
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.8 else image


def _scribble(image: UInt8[np.ndarray, "H W 3"], base: np.ndarray, rng: np.random.Generator) -> None:
    """Draw one piece of clutter onto ``image``: a bent line, or a blob too ragged to be a disc."""
    height, width = image.shape[:2]
    strength = rng.uniform(0.2, 0.9)
    colour = tuple((base * (1 - strength) + random_colours(1, rng)[0] * strength).tolist())
    centre = rng.random(2) * (width, height)
    if rng.random() < 0.55:
        path = centre + np.cumsum(rng.normal(0, 0.12 * height, (int(rng.integers(2, 7)), 2)), axis=0)
        cv2.polylines(image, [path.astype(np.int32)], False, colour, int(rng.integers(1, 6)), cv2.LINE_AA)
        return
    angles = np.sort(rng.random(11)) * 2 * math.pi
    radii = rng.uniform(0.25, 1, (11, 1)) * height * rng.uniform(0.04, 0.22)
    ragged = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(image, [ragged.astype(np.int32)], colour, cv2.LINE_AA)


# --- objects


def _circle(radius: float) -> Polygon:
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> Polygon:
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _star(inner: float) -> Polygon:
    angles = np.arange(10) * math.pi / 5 - math.pi / 2
    return np.resize([1, inner], 10)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross(arm: float) -> Polygon:
    corner = np.array([[arm, -1], [arm, -arm], [1, -arm]])
    quarter_turn = np.array([[0, 1], [-1, 0]])  # for row vectors
    return np.concatenate([corner @ np.linalg.matrix_power(quarter_turn, turns) for turns in range(4)])


def _outline(shape: str, rng: np.random.Generator) -> list[Polygon]:
    """The polygons of a shape; a second one inside the first is a hole."""
    match shape:
        case "disc":
            return [_circle(1)]
        case "ring":
            return [_circle(1), _circle(rng.uniform(0.45, 0.62))]
        case "square":
            return [_rectangle(-1, -1, 1, 1)]
        case "triangle":
            return [np.array([[0, -1], [1, 0.8], [-1, 0.8]])]
        case "star":
            return [_star(rng.uniform(0.38, 0.46))]
        case "cross":
            return [_cross(rng.uniform(0.27, 0.38))]
    raise ValueError(f"there is no shape {shape!r}")


# Degrees an object may turn to either side: a square stays one, a triangle stands, stripes on a disc run any way.
_TURN = {"disc": 180, "ring": 180, "square": 20, "triangle": 25, "star": 36, "cross": 20}


def _pattern(texture: str, side: float, rng: np.random.Generator) -> list[Polygon]:
    """The polygons in the second colour: few and wide on a small object, so that they can still be seen."""
    if texture == "plain":
        return []
    cells = int(rng.integers(2, 3 if side < 32 else 5))
    if texture == "striped":
        edges = np.linspace(-1, 1, 2 * cells + 2)
        return [_rectangle(-1.2, edges[i], 1.2, edges[i + 1]) for i in range(1, 2 * cells, 2)]
    if texture == "checkered":
        edges = np.linspace(-1, 1, cells + 3)
        pairs = [(i, j) for i in range(cells + 2) for j in range(cells + 2) if (i + j) % 2]
        return [_rectangle(edges[i], edges[j], edges[i + 1], edges[j + 1]) for i, j in pairs]
    raise ValueError(f"there is no texture {texture!r}")


def paint_object(
    shape: str, texture: str, *, side: float, backdrop: Float[np.ndarray, " 3"], rng: np.random.Generator
) -> Stamp:
    """Paint one object whose longer side is ``side`` pixels, in colours that stand out against ``backdrop``."""
    turn = math.radians(rng.uniform(-1, 1) * _TURN[shape])
    stretch = math.exp(rng.uniform(-0.2, 0.2))
    cosine, sine = math.cos(turn), math.sin(turn)
    matrix = np.array([[stretch * cosine, stretch * sine], [-sine / stretch, cosine / stretch]])
    outline = [polygon @ matrix for polygon in _outline(shape, rng)]
    low, high = outline[0].min(axis=0), outline[0].max(axis=0)
    scale = side / (high - low).max()
    width, height = np.ceil((high - low) * scale).astype(int) + 2
    place = scale * matrix, 1 - low * scale

    alpha = np.zeros((height, width), dtype=np.uint8)
    fixed = _fixed_point([polygon * scale + place[1] for polygon in outline])
    cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, _FRACTION_BITS)
    first = colour_unlike(backdrop[None], 95, rng)
    colours = np.empty((height, width, 3), dtype=np.uint8)
    colours[:] = first.astype(np.uint8)
    if texture != "plain":
        second = tuple(colour_unlike(np.stack([first, first]), 150, rng).tolist())
        pattern = [polygon @ place[0] + place[1] for polygon in _pattern(texture, side, rng)]
        cv2.fillPoly(colours, _fixed_point(pattern), second, cv2.LINE_AA, _FRACTION_BITS)
    light = cv2.resize(rng.uniform(0.72, 1.12, (2, 2)).astype(np.float32), (width, height))
    colours = cv2.multiply(colours, cv2.merge([light] * 3), dtype=cv2.CV_8U)
    if rng.random() < 0.4:
        rim = tuple((first * rng.uniform(0.2, 0.6)).tolist())
        cv2.polylines(colours, fixed, True, rim, max(1, round(side * 0.06)), cv2.LINE_AA, _FRACTION_BITS)
    return Stamp(colours, alpha)


def _fixed_point(polygons: Sequence[Polygon]) -> list[np.ndarray]:
    """Polygons for OpenCV, whose pixel centres are whole numbers (ours are at a half)."""
    return [np.round((polygon - 0.5) * 2**_FRACTION_BITS).astype(np.int32) for polygon in polygons]


# --- the camera


def photograph(image: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """The picture under uneven light, in another tone and white balance, sometimes out of focus, with sensor noise."""
    height, width = image.shape[:2]
    strength = rng.uniform(0, 0.3)
    light = cv2.resize(rng.uniform(1 - strength, 1 + strength, (3, 3)).astype(np.float32), (width, height))
    image = cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)
    gain = rng.uniform(0.8, 1.15) * rng.uniform(0.93, 1.07, 3)
    levels = 255 * (np.arange(256)[:, None] / 255) ** rng.uniform(0.75, 1.3) * gain
    image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.6:
        bits = int(rng.integers(2, 6))  # the noise spans 4 to 32 of 256 levels
        noise = np.frombuffer(rng.bytes(image.size), dtype=np.uint8).reshape(image.shape) >> (8 - bits)
        image = cv2.add(cv2.subtract(image, np.full(4, 2.0 ** (bits - 1))), noise)
    return image
