"""Masks over pictures, their legend, and which class is taken for which."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from mbvision.draw import Colour, class_colour
from mbvision.structures import IGNORE
from mbvision.writing import writing

_LINE = 18  # pixels from one line of the legend to the next
_SWATCH = 10
_GAP = 4
_LEGEND_ALPHA = 0.75
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.4
_MOST_NUMBERED = 25
"""Up to so many classes the cells of a confusion plot hold their percentages."""
_MOST_NAMED = 100
"""Up to so many classes have their names beside a confusion plot; more could not be read."""


def palette(num_classes: int) -> tuple[Colour, ...]:
    """Fixed RGB colours, those of the classes' boxes, for a data set without any."""
    return tuple(class_colour(label) for label in range(num_classes))


def background_of(names: Sequence[str]) -> int | None:
    """The label of the class that is called background, where there is one."""
    return names.index("background") if "background" in names else None


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    palette: Sequence[Colour],
    alpha: float = 0.5,
    *,
    background: int | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the RGB picture tinted by class: ``alpha`` 0 is the picture, 1 the colours.

    Pixels of 255, of labels without a colour, and of the class ``background`` where one is named, stay as they are.
    """
    table = np.zeros((256, 1, 3), dtype=np.uint8)
    table[: len(palette), 0] = palette
    colours = cv2.applyColorMap(np.ascontiguousarray(labels), table)
    tinted = cv2.addWeighted(np.ascontiguousarray(image), 1 - alpha, colours, alpha, 0)
    free = labels >= len(palette)
    if background is not None:
        free |= labels == background
    cv2.copyTo(image, free.view(np.uint8), tinted)
    return tinted


def legend(
    names: Sequence[str], palette: Sequence[Colour], present: Iterable[int], *, width: int
) -> UInt8[np.ndarray, "H W 3"]:
    """A white strip, ``width`` pixels wide, with colour and name of the ``present`` labels; 255 is left out.

    It has as many lines as it needs, none for no label. A name that is too long for a line is cut.
    """
    corners: list[tuple[int, int, int, str]] = []
    x, y = _GAP, 0
    for label in sorted({int(label) for label in present} - {IGNORE}):
        text = _shortened(names[label], width - 3 * _GAP - _SWATCH)
        needed = _SWATCH + _GAP + _text_width(text)
        if corners and x + needed > width - _GAP:
            x, y = _GAP, y + _LINE
        corners.append((x, y, label, text))
        x += needed + 3 * _GAP
    strip = np.full((y + _LINE if corners else 0, width, 3), 255, dtype=np.uint8)
    for x, y, label, text in corners:
        top = y + (_LINE - _SWATCH) // 2
        cv2.rectangle(strip, (x, top), (x + _SWATCH - 1, top + _SWATCH - 1), palette[label], cv2.FILLED)
        place = (x + _SWATCH + _GAP, top + _SWATCH - 1)
        cv2.putText(strip, text, place, _FONT, _FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def with_legend(image: UInt8[np.ndarray, "H W 3"], strip: UInt8[np.ndarray, "H2 W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture, of the same size, with a `legend` of its width over its lower edge.

    The picture shines through. Lines of the legend that would cover more than half of it are left out.
    """
    drawn = np.ascontiguousarray(image).copy()
    height = min(len(strip), len(image) // 2 // _LINE * _LINE)
    if height:
        drawn[-height:] = cv2.addWeighted(drawn[-height:], 1 - _LEGEND_ALPHA, strip[:height], _LEGEND_ALPHA, 0)
    return drawn


def _text_width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    return int(width)


def _shortened(name: str, room: int) -> str:
    """The name, or as much of its beginning as fits in ``room`` pixels."""
    if _text_width(name) <= room:
        return name
    kept = next((n for n in range(len(name) - 1, 0, -1) if _text_width(name[:n] + "..") <= room), 0)
    return name[:kept] + ".." if kept else ""


def plot_confusion(matrix: Int[np.ndarray, "C C2"], names: Sequence[str], path: Path) -> None:
    """Of each true class (rows) the share of pixels, or images, by predicted class in percent; gray is one without any.

    A last column beyond the classes, predictions of none of them, is shown where it holds anything.
    """
    from matplotlib.colors import PowerNorm  # slow to import
    from matplotlib.figure import Figure

    classes = len(names)
    columns = matrix.shape[1] if matrix[:, classes:].any() else classes
    total = matrix.sum(axis=1, keepdims=True)
    share = np.divide(100.0 * matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)[:, :columns]
    side = 3 + max(3.0, min(16.0, 0.45 * classes))  # inches
    font = max(4.0, min(10.0, 72 * (side - 3) / classes * 0.6))  # points: below the height of a row
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    shown = axes.imshow(np.ma.masked_invalid(share), cmap="Blues", norm=PowerNorm(0.5, 0, 100))  # small ones show
    if classes <= _MOST_NAMED:
        axes.set_xticks(range(columns), [*names, "no class"][:columns], rotation=90, fontsize=font)
        axes.set_yticks(range(classes), list(names), fontsize=font)
    axes.set(xlabel="predicted", ylabel="true")
    if classes <= _MOST_NUMBERED:
        for row, column in zip(*np.nonzero(share >= 0.5), strict=True):  # what rounds to 0 stays empty
            value = share[row, column]
            colour = "white" if value > 30 else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=0.8 * font, color=colour)
    figure.colorbar(shown, ax=axes, label="% of the true class", shrink=0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path):
        figure.savefig(path, dpi=110, bbox_inches="tight")
