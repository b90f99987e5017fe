"""The results of ``complexity`` as text, JSON and CSV. Memory is in bytes; kB and MB are thousands and millions."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.analysis.breakdown import SeparableCost, by_stage, by_work, separable_costs
from mbvision.analysis.complexity import Complexity
from mbvision.analysis.sweep import SweepPoint
from mbvision.metrics.report import write_metrics
from mbvision.network import Network
from mbvision.writing import replace_text


def format_tables(title: str, network: Network, cost: Complexity, value_bytes: int) -> str:
    """By stage, by kind of work, and each separable convolution beside the full one it stands for."""
    lines = [title, "", *_groups("stage", by_stage(network, cost), cost, value_bytes)]
    lines += ["", *_groups("work", by_work(cost), cost, value_bytes)]
    if separable := separable_costs(network, cost):
        lines += ["", *_separable(separable)]
    largest = max(cost.layers, key=lambda layer: layer.activations)
    lines += ["", f"largest output: {largest.name}, {_shape(largest.output)}"]
    return "\n".join([*lines, f"parameters {cost.parameters:,}", f"MAdds {cost.madds:,}"])


def _groups(heading: str, groups: Mapping[Any, Complexity], total: Complexity, value_bytes: int) -> list[str]:
    width = max(len(name) for name in (*groups, heading)) + 2
    lines = [f"{heading:<{width}}{'parameters':>14}{'%':>8}{'MAdds':>18}{'%':>8}{'activations kB':>18}"]
    for name, cost in (*groups.items(), ("total", total)):
        lines.append(
            f"{name:<{width}}{cost.parameters:>14,}{_percent(cost.parameters, total.parameters):>8}"
            f"{cost.madds:>18,}{_percent(cost.madds, total.madds):>8}{cost.activations * value_bytes / 1e3:>18,.1f}"
        )
    return lines


def _separable(costs: Sequence[SeparableCost]) -> list[str]:
    """k, M, N and the output as in arXiv:1704.04861, equations 2 to 5."""
    width = max(len(cost.name) for cost in costs) + 2
    head = f"{'separable':<{width}}{'k':>3}{'M':>6}{'N':>6}{'output':>10}"
    lines = [f"{head}{'MAdds':>16}{'of a full one':>18}{'1/N + 1/k²':>12}"]
    for cost in costs:
        size = f"{cost.output[0]}x{cost.output[1]}"
        lines.append(
            f"{cost.name:<{width}}{cost.kernel:>3}{cost.in_channels:>6}{cost.out_channels:>6}{size:>10}"
            f"{cost.depthwise_madds + cost.pointwise_madds:>16,}{cost.dense_madds:>18,}{cost.ratio:>12.4f}"
        )
    return lines


def write(path: Path, about: Mapping[str, Any], network: Network, cost: Complexity, value_bytes: int) -> None:
    """Everything as JSON, or a line a layer as CSV, by the ending of ``path``; the file appears whole or not at all."""
    layers = _layers(network, cost, value_bytes)
    if path.suffix == ".csv":
        _write_csv(path, [{**layer, "output": _shape(layer["output"])} for layer in layers])
        return
    document = {
        **about,
        **_totals(cost, value_bytes),
        "largest_activation_bytes": cost.largest_activation * value_bytes,
        "value_bytes": value_bytes,
        "stages": _rows(by_stage(network, cost), value_bytes),
        "work": _rows(by_work(cost), value_bytes),
        "separable": [
            {
                "name": one.name,
                "kernel": one.kernel,
                "in_channels": one.in_channels,
                "out_channels": one.out_channels,
                "output": one.output,
                "madds": one.depthwise_madds + one.pointwise_madds,
                "dense_madds": one.dense_madds,
                "parameters": one.parameters,
                "dense_parameters": one.dense_parameters,
                "ratio": one.ratio,
            }
            for one in separable_costs(network, cost)
        ],
        "layers": layers,
    }
    write_metrics(path, document)


def _layers(network: Network, cost: Complexity, value_bytes: int) -> list[dict[str, Any]]:
    stage_of = {layer.name: stage for stage, part in by_stage(network, cost).items() for layer in part.layers}
    return [
        {
            "name": layer.name,
            "stage": stage_of[layer.name],
            "kind": layer.kind,
            "work": layer.work,
            "output": layer.output,
            "parameters": layer.parameters,
            "madds": layer.madds,
            "activation_bytes": layer.activations * value_bytes,
        }
        for layer in cost.layers
    ]


def _rows(groups: Mapping[Any, Complexity], value_bytes: int) -> list[dict[str, Any]]:
    return [{"name": name, **_totals(cost, value_bytes)} for name, cost in groups.items()]


def _totals(cost: Complexity, value_bytes: int) -> dict[str, int]:
    return {
        "parameters": cost.parameters,
        "madds": cost.madds,
        "activation_bytes": cost.activations * value_bytes,
    }


def format_sweep(title: str, points: Sequence[SweepPoint], value_bytes: int) -> str:
    """A line a point."""
    lines = [title, "", f"{'width':>6}{'input':>12}{'parameters':>14}{'MAdds':>18}{'activations kB':>18}"]
    for point in points:
        size, cost = f"{point.input_size[0]}x{point.input_size[1]}", point.cost
        memory = cost.activations * value_bytes / 1e3
        lines.append(f"{point.width:>6}{size:>12}{cost.parameters:>14,}{cost.madds:>18,}{memory:>18,.1f}")
    return "\n".join(lines)


def write_sweep(path: Path, about: Mapping[str, Any], points: Sequence[SweepPoint], value_bytes: int) -> None:
    """Every point as JSON (key ``points``) or CSV, by the ending of ``path``."""
    rows: list[dict[str, Any]] = [
        {"width": point.width, "input_size": list(point.input_size), **_totals(point.cost, value_bytes)}
        for point in points
    ]
    if path.suffix == ".csv":
        _write_csv(path, [{**row, "input_size": _shape(row["input_size"])} for row in rows])
    else:
        write_metrics(path, {**about, "value_bytes": value_bytes, "points": rows})


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(path, text.getvalue())


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(str(size) for size in sizes)


def _percent(share: int, total: int) -> str:
    return f"{100 * share / total:.2f}" if total else "-"
