"""Boxes, pictures side by side, and curves: what people would rather look at than read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from mbvision.writing import replacing, writing

Colour = tuple[int, int, int]
_GOLDEN = 0.618033988749895
"""Steps of the golden ratio around the hue circle keep any number of classes apart."""


def class_colour(label: int) -> Colour:
    """The fixed RGB colour of a class, light enough for black text."""
    hue = int(179 * (label * _GOLDEN % 1.0))
    red, green, blue = cv2.cvtColor(np.array([[[hue, 170, 255]]], dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "N 4"],
    labels: Int[np.ndarray, " N"],
    names: Sequence[str],
    scores: Float[np.ndarray, " N"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the RGB picture with boxes ``x1 y1 x2 y2`` in its pixels, each with its class and score."""
    drawn = np.ascontiguousarray(image).copy()
    thickness = max(1, round(max(image.shape[:2]) / 400))
    for row in range(len(boxes) - 1, -1, -1):  # the best on top
        label = int(labels[row])
        x1, y1, x2, y2 = (round(float(value)) for value in boxes[row])
        cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), class_colour(label), thickness)
        text = names[label] if scores is None else f"{names[label]} {scores[row]:.2f}"
        _draw_tab(drawn, text, (x1, y1), class_colour(label))
    return drawn


def _draw_tab(image: UInt8[np.ndarray, "H W 3"], text: str, corner: tuple[int, int], colour: Colour) -> None:
    """Text on a filled tab above ``corner``, moved so that it stays inside the picture."""
    scale = _text_scale(image)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = max(0, min(corner[0], image.shape[1] - width - 2))
    y = max(height + base, min(corner[1], image.shape[0] - 1))
    cv2.rectangle(image, (x, y - height - base), (x + width + 1, y), colour, cv2.FILLED)
    cv2.putText(image, text, (x + 1, y - base), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)


def _text_scale(image: UInt8[np.ndarray, "H W 3"]) -> float:
    return max(0.3, max(image.shape[:2]) / 1600)


def write_text(image: UInt8[np.ndarray, "H W 3"], text: str) -> None:
    """Text on a white tab in the picture's top left corner; the picture is changed."""
    _draw_tab(image, text, (0, 0), (255, 255, 255))


def write_lines(image: UInt8[np.ndarray, "H W 3"], lines: Sequence[str]) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture with lines of text on white tabs, one below the other from its top left corner."""
    drawn = np.ascontiguousarray(image).copy()
    (_, height), base = cv2.getTextSize("Ag", cv2.FONT_HERSHEY_SIMPLEX, _text_scale(image), 1)
    for number, line in enumerate(lines):
        bottom = (number + 1) * (height + base + 1)
        if number and bottom > len(image):
            break
        _draw_tab(drawn, line, (0, bottom), (255, 255, 255))
    return drawn


def captioned(
    image: UInt8[np.ndarray, "H W 3"], lines: Sequence[str], *, side: int = 160
) -> UInt8[np.ndarray, "S2 S 3"]:
    """The picture fitted into a square of ``side`` pixels, on white, with lines of text below."""
    line_height = 16
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    canvas = np.full((side + line_height * len(lines), side, 3), 255, dtype=np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    for number, line in enumerate(lines):
        place = (2, side + line_height * number + 12)
        cv2.putText(canvas, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def side_by_side(
    left: UInt8[np.ndarray, "H1 W1 3"], right: UInt8[np.ndarray, "H2 W2 3"], titles: tuple[str, str]
) -> UInt8[np.ndarray, "H3 W3 3"]:
    """Two images next to each other, each under its title; white fills what one lacks to the size of the other."""
    bar, gap = 24, 6
    height, width = (max(left.shape[axis], right.shape[axis]) for axis in (0, 1))
    canvas = np.full((height + bar, 2 * width + gap, 3), 255, dtype=np.uint8)
    for number, (picture, title) in enumerate(zip((left, right), titles, strict=True)):
        x = number * (width + gap)
        canvas[bar : bar + picture.shape[0], x : x + picture.shape[1]] = picture
        cv2.putText(canvas, title, (x + 4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def grid(images: Sequence[UInt8[np.ndarray, "H W 3"]], columns: int) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pictures in rows of ``columns``, each in the top left corner of a cell of the largest's size; white between."""
    height, width = (max(image.shape[axis] for image in images) + 4 for axis in (0, 1))
    rows = -(-len(images) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for number, image in enumerate(images):
        y, x = number // columns * height, number % columns * width
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def save_image(path: Path, image: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"]) -> None:
    """Write an RGB or gray picture in the format of its suffix; the file is there whole or not at all."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image  # a reversed view takes twice the time
    done, data = cv2.imencode(path.suffix, bgr)
    if not done:
        raise OSError(f"{path}: the picture cannot be encoded as {path.suffix}")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def plot_curves(history: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Losses (``train/...``) above, metrics (``val/...``) below, over the step."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(9, 8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for name, points in history.items():
        steps, values = zip(*points, strict=True)
        if name.startswith("train/"):
            above.plot(steps, values, label=name, linewidth=1)
        elif name.startswith("val/"):
            below.plot(steps, values, label=name, marker=".")
    above.set(ylabel="loss", title=path.parent.name)
    below.set(ylabel="metric", xlabel="step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small", ncols=2)
    with writing(path):
        figure.savefig(path, dpi=110)


def plot_precision_recall(curves: Mapping[str, Float[np.ndarray, " 101"]], path: Path) -> None:
    """Precision over recall (0, 0.01, ... 1) at IoU 0.5, a line a class; those without ground truth are left out."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    recall = np.linspace(0, 1, 101)
    shown = {name: precision for name, precision in curves.items() if (precision >= 0).all()}
    for name, precision in shown.items():
        axes.plot(recall, precision, label=name if len(shown) <= 20 else None, linewidth=1)
    if shown:
        axes.plot(recall, np.mean(list(shown.values()), axis=0), color="black", linewidth=2, label="mean")
        axes.legend(fontsize="small")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="IoU 0.5")
    axes.grid(alpha=0.3)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
