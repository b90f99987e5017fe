"""Metrics as a file and as text. Files appear whole or not at all."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mbvision.writing import replace_text

MOST_CLASSES, WORST = 100, 20
"""Above so many classes a table on the screen has so many lines."""


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write ``metrics`` as JSON with all the digits of every number; one that is not finite becomes ``null``.

    Raises:
        OSError: the file cannot be written.
    """
    replace_text(path, json.dumps(_plain(metrics), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """``value`` in the types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def merged(metrics: Mapping[str, Mapping[str, Any]], pictures: int) -> dict[str, Any]:
    """The metrics of several tasks as those of one: a class has what every task says of it.

    ``pictures`` is the size of the data set. ``images`` and ``images_total`` count pictures, whether each has labels
    for every task or the tasks have pictures of their own.
    """
    result: dict[str, Any] = {}
    per_class: dict[str, dict[str, Any]] = {}
    for scores in metrics.values():
        for name, row in scores.get("per_class", {}).items():
            per_class[name] = per_class.get(name, {}) | dict(row)
        result |= {key: value for key, value in scores.items() if key not in ("per_class", "images", "images_total")}
    apart = sum(scores["images_total"] for scores in metrics.values()) == pictures
    scored = [scores["images"] for scores in metrics.values()]
    images = {"images": sum(scored) if apart else max(scored), "images_total": pictures}
    return {**result, "per_class": per_class, **images}


def format_table(metrics: Mapping[str, Any]) -> str:
    """The main numbers one to a line, as ``AP50 0.6312``, then a table with one line a class.

    The main numbers are the floats at the top level. A class that has no ground truth shows its -1. Of more classes
    than `MOST_CLASSES` the `WORST` by the first column that are in the ground truth are shown.
    """
    lines = [f"{name} {value:.4f}" for name, value in metrics.items() if isinstance(value, float)]
    per_class: Mapping[str, Mapping[str, float]] = metrics.get("per_class", {})
    if per_class:
        columns = list(dict.fromkeys(key for row in per_class.values() for key in row))
        shown = list(per_class)
        if len(shown) > MOST_CLASSES:
            found = [name for name in shown if per_class[name].get(columns[0], -1.0) >= 0]
            shown = sorted(found, key=lambda name: per_class[name][columns[0]])[:WORST]
        rows = [["class", *columns]]
        rows += [[name, *(_cell(per_class[name].get(key)) for key in columns)] for name in shown]
        heads, *table = aligned(rows)
        lines += ["", heads, "-" * len(heads), *table]
        if len(shown) < len(per_class):
            lines.append(f"the {len(shown)} lowest of {len(per_class)} classes; output=FILE.json has all")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first column flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
