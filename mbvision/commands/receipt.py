"""What an export is compared on: drawn pictures, and a whole validation set."""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbvision.commands.compose import compose_config
from mbvision.commands.scoring import score_network
from mbvision.deploy.export import Exported
from mbvision.deploy.exported import exported
from mbvision.deploy.runtime import Runtime
from mbvision.deploy.samples import sample_pictures

__all__ = ["milliseconds", "receipt", "sample_pictures"]
ROUNDS = 5


def receipt(done: Exported, config: Mapping[str, Any], data: Sequence[str]) -> str:
    """Scores and milliseconds of the network and of the file, on a data set named by overrides, as a table."""
    assert done.runtime is not None
    settings = evaluation(config, data)
    scores = [
        {name: value for name, value in scored(runtime, done.path, settings).items() if isinstance(value, float)}
        for runtime in (done.eager, done.runtime)
    ]
    rows: list[tuple[str, ...]] = [("", "network", "file", "difference")]
    for name, before in scores[0].items():
        after = scores[1][name]
        rows.append((name, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"))
    times = milliseconds([done.eager, done.runtime], done.pictures[0].numpy())
    rows.append(("ms a picture", *(f"{value:.1f}" for value in times), f"{times[0] / times[1]:.2f}x"))
    return "\n".join(f"{row[0]:<18}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows)


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


def milliseconds(runtimes: Sequence[Runtime], images: np.ndarray) -> list[float]:
    """Medians of the CPU time of a picture, taken in turn."""
    spent: list[list[float]] = [[] for _ in runtimes]
    for _ in range(ROUNDS + 1):
        for place, runtime in enumerate(runtimes):
            start = time.process_time()
            runtime.run(images)
            spent[place].append(1000 * (time.process_time() - start) / len(images))
    return [statistics.median(own[1:]) for own in spent]  # the first run of each warms up
