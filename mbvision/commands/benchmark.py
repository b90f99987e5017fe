"""``benchmark``: size, score, latency and memory of a checkpoint in every format, beside torch and torchvision."""

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mbvision.commands.compose import compose_config, wants_help
from mbvision.commands.places import check_writable
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError, MBVisionError

if TYPE_CHECKING:
    from mbvision.commands.contestants import Contestant

HELP = """\
Compare runtimes: python tools/benchmark.py checkpoint=best.ckpt

  checkpoint=PATH         a checkpoint of train; it is exported to a temporary folder for each format
  formats=[onnx,openvino] executorch, torch_export; default: those that are installed
  files=[int8.onnx]       files exported before: they are compared too
  peer=false              without torchvision's model of the same kind, width, input and classes
  data=coco               also score each on data.root=FOLDER, split=NAME; limit=500 scores the first pictures alone
  batches=[1,4]           pictures at a time
  threads=[1]             [1,2,4]: on so many threads each
  rounds=20               of all in turn: what slows the machine down slows all down alike
  input_size=320          or [height,width]; default: the checkpoint's
  memory=false            without the peak memory, for which each has a process of its own
  profile=true            the slowest layers, in torch and in ONNX Runtime
  output=FILE.json        everything, with all digits
  picture=FILE.png        bars by stage, size and memory

Times are CPU milliseconds of a picture, medians and 95th percentiles, with wall time beside them."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables and write the files that were asked for."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    config = compose_config("benchmark", arguments)
    for key, ending in (("output", ".json"), ("picture", ".png")):
        if config[key] is not None and Path(config[key]).suffix != ending:
            raise ConfigError(f"{key}={config[key]}: give a file that ends in {ending}")
        if config[key] is not None:
            check_writable(key, Path(config[key]))
    for key in ("batches", "threads"):
        if not config[key]:
            raise ConfigError(f"{key}=[]: name at least one")
    data = [one for one in arguments if one.startswith(("data=", "data."))]
    from mbvision.commands.benchmark_tables import format_result
    from mbvision.draw_benchmark import plot_benchmark
    from mbvision.metrics.report import write_metrics

    with tempfile.TemporaryDirectory() as folder:
        result = measure(config, data, Path(folder))
    print(format_result(result))
    if config["output"]:
        write_metrics(Path(config["output"]), result)
    if config["picture"]:
        plot_benchmark(Path(config["picture"]), result)
    return 0


def measure(config: Mapping[str, Any], data: Sequence[str], folder: Path) -> dict[str, Any]:
    """Everything about every contestant; see docs/benchmark.md for the keys."""
    from mbvision.commands.benchmark_tables import about_machine
    from mbvision.commands.peak_memory import peak_megabytes
    from mbvision.commands.profiling import profile

    contestants, left_out = find_contestants(config, folder)
    own = contestants[0]
    batch, threads = config["batches"][0], config["threads"][0]
    rows: dict[str, dict[str, Any]] = {one.name: {"megabytes": one.megabytes()} for one in contestants}
    if data:
        for one in contestants:
            if not one.peer:
                rows[one.name]["score"], rows[one.name]["pictures"] = score(one, config, data)
    if config["memory"]:
        for one in tqdm(contestants, desc="memory", unit="runtime"):
            rows[one.name]["peak_megabytes"] = peak_megabytes(one, batch=batch, threads=threads)
    latency = [entry for count in config["threads"] for entry in time_all(contestants, config, count)]
    return {
        "machine": about_machine(),
        "checkpoint": str(own.checkpoint),
        "input_size": list(own.input_size),
        "networks": describe(contestants),
        "left_out": left_out,
        "contestants": rows,
        "rounds": config["rounds"],
        "latency": latency,
        "profile": profile(contestants, threads) if config["profile"] else {},
    }


def find_contestants(config: Mapping[str, Any], folder: Path) -> tuple[list["Contestant"], dict[str, str]]:
    """torch first, then the formats, files and the peer; and why others are left out."""
    from mbvision import checkpoint
    from mbvision.build import eval_size, input_size
    from mbvision.commands.contestants import Contestant, with_peer
    from mbvision.deploy.about import description
    from mbvision.deploy.export import export
    from mbvision.deploy.formats import FORMATS, RUNTIMES, open_runtime
    from mbvision.deploy.samples import sample_pictures

    source = Path(config["checkpoint"])
    about = checkpoint.rebuild(checkpoint.read(source), source)[2]
    size = input_size(config) if config["input_size"] is not None else eval_size(about["config"])
    own = Contestant(name="torch", checkpoint=source, input_size=size)
    found, left_out = [own], dict[str, str]()
    runnable = {name: one for name, one in FORMATS.items() if one.runtime is not None}
    if config["formats"] is None:
        left_out |= {name: "its files do not run on this machine" for name in FORMATS if name not in runnable}
    names = list(runnable) if config["formats"] is None else config["formats"]
    if wrong := [name for name in names if name not in runnable]:
        raise ConfigError(f"formats={names}: {wrong[0]} does not run here; choose of {', '.join(runnable)}")
    for name in tqdm(names, desc="export", unit="format", disable=not names):
        if missing := [one for one in runnable[name].packages if find_spec(one) is None]:
            left_out[name] = f"{missing[0]} is not installed"
            continue
        file = folder / f"network{runnable[name].suffix}"
        try:
            with quiet():
                export(source, file, format=name, pictures=sample_pictures, masks="logits", input_size=size)
        except Exception as error:  # exporters raise all kinds; the others are still measured
            left_out[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            continue
        found.append(replace(own, name=name, file=file))
    for path in map(Path, config["files"]):
        if path.suffix.lower() not in RUNTIMES or not path.is_file():
            raise ConfigError(f"files: {path} is no file that ends in {', '.join(RUNTIMES)}")
        its = description(open_runtime(path).metadata, path)
        if its["class_names"] != about["class_names"] or tuple(its["input_size"]) != size:
            shown = "x".join(map(str, its["input_size"]))
            raise ConfigError(
                f"files: {path} is for other classes or another input ({shown}) than {source}; export it from there"
            )
        found.append(replace(own, name=path.name, file=path))
    if config["peer"]:
        try:
            found.append(with_peer(own))
        except MBVisionError as error:
            left_out["torchvision"] = str(error)
    return found, left_out


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' warnings of what they are made of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def score(one: "Contestant", config: Mapping[str, Any], data: Sequence[str]) -> tuple[dict[str, float], int]:
    """The main numbers on the data set that overrides name, and how many pictures were scored."""
    from mbvision.commands.receipt import evaluation
    from mbvision.commands.scoring import score_network
    from mbvision.deploy.fold import folded
    from mbvision.network import Network

    settings = evaluation(config, data)
    network, tasks, about = one.model()
    network = folded(network) if isinstance(network, Network) else network
    with tempfile.TemporaryDirectory() as folder:
        metrics = score_network(network, tasks, about, settings, Path(folder), limit=config["limit"])
    return {name: value for name, value in metrics.items() if isinstance(value, float)}, metrics["images"]


def time_all(contestants: Sequence["Contestant"], config: Mapping[str, Any], threads: int) -> Iterator[dict[str, Any]]:
    """For each number of pictures: the stages of everyone, in turn. Torch's and OpenCV's threads are set back."""
    import cv2
    import torch

    from mbvision.commands.contestants import pictures
    from mbvision.deploy.latency import Case, interleaved

    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        cv2.setNumThreads(threads if threads > 1 else 0)
        steps = {one.name: one.steps(threads) for one in contestants}
        for batch in config["batches"]:
            given = pictures(batch)
            cases = [Case(name=name, steps=own, given=given, units=batch) for name, own in steps.items()]
            doing = f"{threads} thread{'s' * (threads > 1)}, batch {batch}"
            with tqdm(total=config["rounds"], desc=doing, unit="round") as progress:
                spent = interleaved(cases, rounds=config["rounds"], tick=progress.update)
            rows = {name: {step: one.summary() for step, one in own.items()} for name, own in spent.items()}
            yield {"threads": threads, "batch": batch, "contestants": rows}
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def describe(contestants: Sequence["Contestant"]) -> dict[str, dict[str, Any]]:
    """Name, parameters and multiply-adds of the network and of the peer, which may not be the same network."""
    from torch.utils.flop_counter import FlopCounterMode

    from mbvision.commands.contestants import pictures

    found = {}
    for one in contestants:
        if one.file is None:
            peer = one.peer_model() if one.peer else None
            network: Any = peer.model if peer else one.model()[0]
            (_, fit), (_, compute), _ = one.steps(1)
            given = fit(pictures(1))
            with FlopCounterMode(display=False) as counter:
                compute(given)
            found[one.name] = {
                "network": peer.name if peer else ", ".join(type(head).__name__ for head in network.heads.values()),
                "parameters": sum(value.numel() for value in network.parameters()),
                "madds": counter.get_total_flops() // 2,
                "same": peer is None or peer.exact,
            }
    return found
