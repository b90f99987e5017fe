"""An export beside its network on a whole validation set: scores and milliseconds."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbvision.commands.compose import compose_config
from mbvision.commands.scoring import score_network
from mbvision.deploy.export import Exported
from mbvision.deploy.exported import exported
from mbvision.deploy.latency import WHOLE, Case, interleaved
from mbvision.deploy.runtime import Runtime

ROUNDS = 5
Row = tuple[str, ...]


def receipt(done: Exported, config: Mapping[str, Any], data: Sequence[str]) -> str:
    """Scores and milliseconds of the network and of the file, on a data set named by overrides, as a table."""
    assert done.runtime is not None
    settings = evaluation(config, data)
    scores = [
        {name: value for name, value in scored(runtime, done.path, settings).items() if isinstance(value, float)}
        for runtime in (done.eager, done.runtime)
    ]
    rows: list[Row] = [("", "network", "file", "difference")]
    rows += [difference(name, before, scores[1][name]) for name, before in scores[0].items()]
    return format_rows([*rows, latency(done.eager, done.runtime, done.pictures[0].numpy())])


def difference(name: str, before: float, after: float) -> Row:
    """A score of the network and of the file."""
    return name, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"


def latency(before: Runtime, after: Runtime, images: np.ndarray) -> Row:
    """Medians of the CPU time of a picture, taken in turn, and how many times as fast the second is."""
    runs = {"before": before, "after": after}
    cases = [Case(name=name, steps=[("run", one.run)], given=images, units=len(images)) for name, one in runs.items()]
    spent = interleaved(cases, rounds=ROUNDS)
    times = [spent[name][WHOLE].summary()["cpu_ms_median"] for name in runs]
    return "ms a picture", *(f"{value:.2f}" for value in times), f"{times[0] / times[1]:.2f}x"


def format_rows(rows: Sequence[Row]) -> str:
    """A table: names flush left, numbers flush right."""
    return "\n".join(f"{row[0]:<22}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows)


def evaluation(config: Mapping[str, Any], data: Sequence[str]) -> dict[str, Any]:
    """The configuration of ``evaluate`` for a data set named by overrides."""
    loader = [f"loader.{key}={value}" for key, value in config["loader"].items()]
    split = [] if config["split"] is None else [f"split={config['split']}"]
    return compose_config("evaluate", [*data, *loader, *split, "samples=0", "device=cpu"])


def scored(runtime: Runtime, path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a file, or of the network in its place."""
    network, tasks, about = exported(runtime, path)
    with tempfile.TemporaryDirectory() as folder:
        return score_network(network, tasks, about, settings, Path(folder))
