"""Bars and lines of what networks cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {
    "pointwise": "#3b75af",
    "depthwise": "#ef8636",
    "dense": "#519e3e",
    "linear": "#c53a32",
    "norm": "#8d69b8",
    "other": "#84584e",
}
"""Of each kind of work, the same in every picture."""


def plot_costs(
    path: Path, title: str, stages: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[int]]]
) -> None:
    """A panel of horizontal bars for each measure: a bar a stage, in pieces for the kinds of work.

    ``panels`` has, by measure and kind of work, a number for each of ``stages``. The first stage is at the top.
    """
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(14, 2.2 + 0.32 * len(stages)), layout="constrained")
    columns: Any = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    places = range(len(stages))
    shown = [work for work in COLOURS if any(any(panel[work]) for panel in panels.values())]
    for axes, (measure, panel) in zip(columns, panels.items(), strict=True):
        ends = [0] * len(stages)
        for work in shown:
            axes.barh(places, panel[work], left=ends, height=0.75, color=COLOURS[work], label=work)
            ends = [end + more for end, more in zip(ends, panel[work], strict=True)]
        total = sum(ends)
        for place, end in zip(places, ends, strict=True):
            share = 100 * end / total if total else 0
            axes.annotate(f" {share:.1f} %", (end, place), va="center", fontsize=8)
        axes.set(title=f"{measure}: {total:,}", xlim=(0, 1.18 * max(*ends, 1)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    columns[0].set_yticks(list(places), stages)
    columns[0].invert_yaxis()
    figure.suptitle(title, fontsize=11)
    handles, labels = columns[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    _save(figure, path)


def plot_sweep(path: Path, title: str, points: Sequence[tuple[float, tuple[int, int], int, int]]) -> None:
    """Multiply-adds over parameters on logarithmic scales: a line a resolution, a point a width.

    ``points`` are width, input size (height, width), parameters and multiply-adds.
    """
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots()
    sizes = sorted({size for _, size, _, _ in points}, key=lambda size: size[0] * size[1])
    widths = sorted({width for width, *_ in points})
    for number, size in enumerate(reversed(sizes)):
        line = sorted((parameters, madds) for _, one, parameters, madds in points if one == size)
        colour = f"C{number % 10}"
        label = str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
        axes.plot(*zip(*line, strict=True), marker="o", markersize=4, color=colour, label=label)
    for width in widths:
        column = [(parameters, madds) for one, _, parameters, madds in points if one == width]
        parameters, top = max(column, key=lambda point: point[1])
        axes.annotate(f"{width:g}", (parameters, top), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="parameters (the width multiplier stands above)", ylabel="MAdds")
    axes.set_title(title, fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.1)
    axes.grid(alpha=0.3, which="both")
    axes.legend(title="input size", fontsize="small")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
