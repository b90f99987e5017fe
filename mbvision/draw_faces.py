"""Faces beside what is said of them, pairs of faces, and the curve of verification."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from mbvision.writing import writing

_LINES, _LINE, _PANEL = 16, 13, 170  # lines beside a picture, their height and their width in pixels
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4

Picture = UInt8[np.ndarray, "H W 3"]


def with_notes(image: Picture, lines: Sequence[str]) -> Picture:
    """The picture, enlarged if it is lower than the text may become, with lines of text on its right.

    Its size depends on the picture's alone. Of more lines than there is room for, the last ones are left out.
    """
    height = _LINES * _LINE
    if image.shape[0] < height:
        width = round(image.shape[1] * height / image.shape[0])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
    panel = np.full((image.shape[0], _PANEL, 3), 255, dtype=np.uint8)
    for number, line in enumerate(lines[: image.shape[0] // _LINE]):
        cv2.putText(panel, line, (4, (number + 1) * _LINE - 3), _FONT, _FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([image, panel], axis=1)


def pair_picture(first: Picture, second: Picture, *, same: bool, distance: float) -> Picture:
    """Two pictures at one height, what is true of them, and their distance below."""
    height, bar = 112, 18
    scaled = [
        cv2.resize(image, (max(1, round(height * image.shape[1] / image.shape[0])), height))
        for image in (first, second)
    ]
    drawn = np.concatenate(scaled, axis=1)
    strip = np.full((bar, drawn.shape[1], 3), 255, dtype=np.uint8)
    colour = (0, 110, 0) if same else (170, 0, 0)
    text = f"{'same' if same else 'different'}, distance {distance:.2f}"
    cv2.putText(strip, text, (4, bar - 5), _FONT, _FONT_SCALE, colour, 1, cv2.LINE_AA)
    return np.concatenate([drawn, strip])


def plot_roc(false_accepts: Int[np.ndarray, " T"], true_accepts: Int[np.ndarray, " T"], path: Path) -> None:
    """The share of accepted pairs of one identity over that of two (logarithmic); counts rise to the totals."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    least = 1 / max(int(false_accepts[-1]), 1)
    x: Float[np.ndarray, " T"] = np.maximum(false_accepts / max(int(false_accepts[-1]), 1), least / 2)
    axes.step(x, true_accepts / max(int(true_accepts[-1]), 1), where="post")
    axes.set(xscale="log", xlim=(least / 2, 1), ylim=(0, 1.02), xlabel="false accept rate", ylabel="true accept rate")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path):
        figure.savefig(path, dpi=110)
