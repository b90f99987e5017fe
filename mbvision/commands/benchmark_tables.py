"""The result of ``benchmark`` as text."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from mbvision.deploy.fastest import processor
from mbvision.metrics.report import aligned

PACKAGES = ("torch", "torchvision", "onnxruntime", "openvino", "executorch")


def about_machine() -> dict[str, str]:
    """What the figures depend on."""
    found = {"processor": processor(), "cores": str(os.cpu_count()), "load": f"{os.getloadavg()[0]:.1f}"}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version()}


def format_result(result: Mapping[str, Any]) -> str:
    """What was compared, sizes and scores, then a table for each number of threads and pictures."""
    machine, size = result["machine"], result["input_size"]
    versions = ", ".join(f"{name} {machine[name]}" for name in PACKAGES if name in machine)
    lines = [
        f"{result['checkpoint']}, input {size[0]}x{size[1]}",
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']}; {versions}",
        *_networks(result["networks"]),
        *(f"left out: {name}: {reason}" for name, reason in result["left_out"].items()),
        "",
        *aligned(_sizes(result["contestants"])),
    ]
    for entry in result["latency"]:
        lines += ["", *_latency(entry, result["rounds"])]
    for name, layers in result["profile"].items():
        lines += ["", f"slowest in {name}", *aligned(_layers(layers))]
    return "\n".join(lines)


def _networks(networks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, one in networks.items():
        other = "" if one["same"] else "; not the same network, with weights that are random"
        counts = f"{one['parameters']:,} parameters, {one['madds']:,} multiply-adds"
        lines.append(f"{name}: {one['network']}, {counts}{other}")
    return lines


def _sizes(rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    scores = list(dict.fromkeys(key for row in rows.values() for key in row.get("score", {})))
    memory = any("peak_megabytes" in row for row in rows.values())
    table = [["", "MB", *(["peak MB"] if memory else []), *(["pictures"] if scores else []), *scores]]
    for name, row in rows.items():
        peak = [_number(row.get("peak_megabytes"), 1)] if memory else []
        own = row.get("score", {})
        scored = [_number(row.get("pictures"), 0)] if scores else []
        numbers = [_number(own.get(key), 4) for key in scores]
        table.append([name, f"{row['megabytes']:.2f}", *peak, *scored, *numbers])
    return table


def _latency(entry: Mapping[str, Any], rounds: int) -> list[str]:
    """Of CPU time the median of each stage, and of the network and the whole the 95th percentile too."""
    rows: Mapping[str, Any] = entry["contestants"]
    base = "torchvision" if "torchvision" in rows else "torch"
    threads = f"{entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"
    title = f"{threads}, batch {entry['batch']}: CPU ms a picture, {rounds} rounds in turn; speed beside {base}"
    table = [["", "fit", "network", "p95", "speed", "post", "whole", "p95", "speed", "wall", "p95"]]
    for name, row in rows.items():
        whole, network = row["whole"], row["network"]
        table.append(
            [
                name,
                f"{row['fit']['cpu_ms_median']:.2f}",
                f"{network['cpu_ms_median']:.2f}",
                f"{network['cpu_ms_p95']:.2f}",
                f"{rows[base]['network']['cpu_ms_median'] / network['cpu_ms_median']:.2f}x",
                f"{row['post']['cpu_ms_median']:.2f}",
                f"{whole['cpu_ms_median']:.2f}",
                f"{whole['cpu_ms_p95']:.2f}",
                f"{rows[base]['whole']['cpu_ms_median'] / whole['cpu_ms_median']:.2f}x",
                f"{whole['wall_ms_median']:.2f}",
                f"{whole['wall_ms_p95']:.2f}",
            ]
        )
    return [title, *aligned(table)]


def _layers(layers: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    table = [["layer", "kind", "ms", "%"]]
    return table + [[one["name"], one["kind"], f"{one['ms']:.3f}", f"{100 * one['share']:.1f}"] for one in layers]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
