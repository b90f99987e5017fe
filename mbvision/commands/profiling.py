"""Which layers take the time: in torch by hooks around them, in ONNX Runtime by its own records."""

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mbvision.commands.contestants import FIT, Contestant, pictures
from mbvision.deploy.fold import folded
from mbvision.deploy.runtime import import_onnxruntime
from mbvision.network import Network

ROUNDS, SHOWN = 10, 15
REST = "between layers"


def profile(contestants: Sequence[Contestant], threads: int) -> dict[str, list[dict[str, Any]]]:
    """For torch, and for an ONNX file if there is one: the slowest layers, each with its milliseconds and its share."""
    own = contestants[0]
    images = dict(own.steps(threads))[FIT](pictures(1))[0]
    network = own.model()[0]
    assert isinstance(network, Network)
    found = {own.name: slowest(layer_times(folded(network), images))}
    for one in contestants:
        if one.file is not None and one.file.suffix == ".onnx":
            found[one.name] = slowest(node_times(one.file, images.contiguous().numpy(), threads))
    return found


def slowest(times: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """The `SHOWN` slowest of layers by (name, kind); the shares (0..1) are of all together."""
    total = sum(times.values())
    best = sorted(times.items(), key=lambda one: -one[1])[:SHOWN]
    return [{"name": name, "kind": kind, "ms": ms, "share": ms / total} for (name, kind), ms in best]


@torch.inference_mode()
def layer_times(network: nn.Module, images: Tensor) -> dict[tuple[str, str], float]:
    """Median CPU milliseconds of every layer that has no layers in it, by name and kind, and of the rest."""
    started: dict[str, float] = {}
    rounds: list[dict[tuple[str, str], float]] = []

    def begin(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            started[name] = time.process_time()

        return hook

    def end(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, *_: Any) -> None:
            key = (name, type(layer).__name__)
            rounds[-1][key] = rounds[-1].get(key, 0.0) + 1000 * (time.process_time() - started[name])

        return hook

    for name, layer in network.named_modules():
        if not list(layer.children()) and not isinstance(layer, nn.Identity):
            layer.register_forward_pre_hook(begin(name))
            layer.register_forward_hook(end(name))
    for _ in range(ROUNDS + 1):
        rounds.append({})
        start = time.process_time()
        network(images)
        whole = 1000 * (time.process_time() - start)
        rounds[-1][REST, ""] = whole - sum(rounds[-1].values())
    counted = rounds[1:]
    return {key: max(statistics.median(one[key] for one in counted), 0.0) for key in counted[0]}


def node_times(file: Path, images: np.ndarray, threads: int) -> dict[tuple[str, str], float]:
    """Median milliseconds of every node of ONNX Runtime's graph, by name and operator."""
    onnxruntime = import_onnxruntime("the cost of layers")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for _ in range(ROUNDS + 1):
            session.run(None, {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["name"].removesuffix("_kernel_time"), event["args"]["op_name"])
            spent[key].append(event["dur"] / 1000)
    return {key: statistics.median(values[1:] or values) for key, values in spent.items()}
