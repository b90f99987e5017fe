"""Bars of how long runtimes take, and how large they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.writing import writing

STAGES = {"fit": "#8ab6d6", "network": "#3b75af", "post": "#ef8636"}
"""Colours of the stages."""
SIZES = {"megabytes": ("file", "#519e3e"), "peak_megabytes": ("peak memory", "#b5cf6b")}


def plot_benchmark(path: Path, result: Mapping[str, Any]) -> None:
    """A panel of stages for each number of threads and pictures, a bar a runtime, and one of sizes.

    ``result`` is that of ``benchmark``; the first runtime is at the top.
    """
    from matplotlib.figure import Figure  # slow to import

    names = list(result["contestants"])
    panels = len(result["latency"]) + 1
    figure = Figure(figsize=(3 + 4.2 * panels, 2.3 + 0.5 * len(names)), layout="constrained")
    columns: Any = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes, entry in zip(columns, result["latency"], strict=False):
        _stages(axes, entry, names)
    _sizes(columns[-1], [result["contestants"][name] for name in names])
    columns[0].set_yticks(range(len(names)), names)
    columns[0].invert_yaxis()
    shown = [axes.get_legend_handles_labels() for axes in (columns[0], columns[-1])]
    handles, labels = ([one for pair in shown for one in pair[part]] for part in (0, 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    size = result["input_size"]
    figure.suptitle(f"{Path(result['checkpoint']).name}, {size[0]}x{size[1]}, {result['machine']['processor']}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


def _stages(axes: Any, entry: Mapping[str, Any], names: Sequence[str]) -> None:
    places = range(len(names))
    rows = [entry["contestants"][name] for name in names]
    ends = [0.0] * len(names)
    for stage, colour in STAGES.items():
        values = [row[stage]["cpu_ms_median"] for row in rows]
        axes.barh(places, values, left=ends, height=0.7, color=colour, label=stage)
        ends = [end + value for end, value in zip(ends, values, strict=True)]
    for place, end in zip(places, ends, strict=True):
        axes.annotate(f" {end:.1f}", (end, place), va="center", fontsize=8)
    threads = f"{entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"
    axes.set(title=f"{threads}, batch {entry['batch']}", xlabel="CPU ms a picture, median", xlim=(0, 1.15 * max(ends)))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _sizes(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    shown = {key: one for key, one in SIZES.items() if any(row.get(key) is not None for row in rows)}
    height = 0.7 / len(shown)
    for number, (key, (label, colour)) in enumerate(shown.items()):
        places = [place + (number - (len(shown) - 1) / 2) * height for place in range(len(rows))]
        values = [row.get(key) or 0.0 for row in rows]
        axes.barh(places, values, height=height, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            axes.annotate(f" {value:.1f}", (value, place), va="center", fontsize=8)
    largest = max((row.get(key) or 0.0 for row in rows for key in shown), default=1.0)
    axes.set(title="size", xlabel="MB", xlim=(0, 1.2 * largest))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
