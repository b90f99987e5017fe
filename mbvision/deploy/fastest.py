"""A checkpoint in the runtime that computes it fastest here: exported once, kept in the user's cache folder.

A kept file belongs to the checkpoint's bytes and to the versions that wrote it: after a change of either it is made
anew. It was compared with the network before it was kept, as every export is.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, get_num_threads, inference_mode, nn

from mbvision import __version__, checkpoint
from mbvision.deploy import openvino
from mbvision.deploy.about import description
from mbvision.deploy.cache import REMEDY, cache_folder
from mbvision.deploy.export import Exported, check, export
from mbvision.deploy.exported import ExportedNetwork, exported, open_model
from mbvision.deploy.fold import folded
from mbvision.deploy.formats import RUNTIMES, open_runtime
from mbvision.deploy.latency import WHOLE, Case, interleaved
from mbvision.deploy.openvino import PRECISIONS
from mbvision.deploy.parity import compare
from mbvision.deploy.runtime import Runtime, require
from mbvision.deploy.samples import sample_pictures
from mbvision.errors import CheckpointError, ConfigError
from mbvision.tasks.base import Task
from mbvision.writing import replacing, temporary_folder

Model = tuple[nn.Module, dict[str, Task[Any, Any]], dict[str, Any]]
PACKAGES = {"onnx": ("onnxruntime", "onnxscript"), "openvino": ("openvino", "onnxruntime", "onnxscript")}
"""What a runtime, and the export for it, need: OpenVINO's files are made from ONNX, which is compared first."""
FILES = {"onnx": "network.onnx", "openvino": "network.xml"}
CHOICES = ("auto", "torch", *FILES)
WORTH = 500
"""So many pictures or frames pay for an export. Ours: 5 to 20 s, and 10 to 60 ms saved on each."""
ROUNDS = 9
KEPT = 20
"""Checkpoints whose files stay in the cache: those used last."""

logger = logging.getLogger(__name__)


def open_fast(
    path: Path, runtime: str | None = None, *, precision: str = "float32", pictures: int | None = None
) -> Model:
    """What `mbvision.deploy.exported.open_model` gives, computed by a ``runtime`` of `CHOICES`; by default as that.

    ``auto`` is the fastest one here for this network. Where fewer than `WORTH` ``pictures`` are to come, that is torch
    until a file of the network is kept. ``precision`` is float32, or bf16, which OpenVINO alone has. Exported files run
    as they are. Raises ConfigError for what is not installed, ExportError where the runtime gives other numbers.
    """
    if runtime is not None and runtime not in CHOICES:
        raise ConfigError(f"runtime={runtime}: choose {', '.join(CHOICES)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision}: choose {', '.join(PRECISIONS)}")
    is_exported = path.suffix.lower() in RUNTIMES
    if precision == "bf16":
        return _in_bfloat16(path, runtime, is_exported)
    if is_exported and runtime not in (None, "auto") and path.suffix.lower() != Path(FILES.get(runtime, "")).suffix:
        raise ConfigError(f"runtime={runtime}: {path} runs as it was exported; give its checkpoint, or leave it out")
    if is_exported or runtime is None or runtime == "torch":
        return open_model(path)
    if runtime == "auto":
        return _fastest(path, worth=pictures is None or pictures >= WORTH)
    return exported(_open_kept(path, runtime, open_runtime), path)


def installed() -> list[str]:
    """The runtimes beside torch that can be used here."""
    return [name for name, packages in PACKAGES.items() if all(find_spec(package) for package in packages)]


def folder_of(path: Path) -> Path:
    """Where the files of a checkpoint are kept: the name is a digest of all that they depend on."""
    checkpoint.check_file(path)
    digest = hashlib.sha256(path.read_bytes())
    packages = ["torch", *(package for name in installed() for package in PACKAGES[name])]
    used = {"mbvision": __version__, "processor": processor()} | {name: version(name) for name in packages}
    digest.update(json.dumps(used, sort_keys=True).encode())
    return cache_folder() / digest.hexdigest()[:32]


def processor() -> str:
    """The model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def kept_file(path: Path, runtime: str) -> Path:
    """A checkpoint's file for ``runtime`` (onnx or openvino), exported now where it is not kept yet."""
    for package in PACKAGES[runtime]:
        require(package, f"runtime={runtime}")
    folder = folder_of(path)
    file = folder / FILES[runtime]
    if not file.is_file():
        logger.info("runtime=%s: exporting %s once; kept in %s", runtime, path, folder)
        try:
            _export(path, folder, [runtime])
        except OSError as error:
            raise ConfigError(
                f"runtime={runtime}: nothing can be kept in {folder} ({error.strerror}): {REMEDY}"
            ) from error
    _touch(folder)
    return file


def _open_kept(path: Path, runtime: str, opened: Callable[[Path], Runtime]) -> Runtime:
    """A checkpoint's file ready to run; one that was damaged in the cache is made anew."""
    file = kept_file(path, runtime)
    try:
        return opened(file)
    except CheckpointError as error:
        logger.warning("%s; it is made anew", error)
        shutil.rmtree(file.parent)
        return opened(kept_file(path, runtime))


def _fastest(path: Path, *, worth: bool) -> Model:
    """The choice is kept beside the files, for each number of threads: what was measured, and the milliseconds."""
    names = installed()
    if not names:
        logger.info('runtime=auto: torch, as no other is installed; pip install "mbvision[onnx]" for a faster one')
        return open_model(path)
    try:
        folder = folder_of(path)
    except ConfigError as error:
        logger.warning("runtime=auto: torch, as %s", error)
        return open_model(path)
    noted = folder / f"choice-{get_num_threads()}.json"  # a runtime that wins on one thread may lose on more
    times = _read(noted)
    if times is None and not worth:
        logger.info(
            "runtime=auto: torch; for so few pictures an export does not pay, runtime=onnx makes one all the same"
        )
        return open_model(path)
    if times is None:
        logger.info("runtime=auto: exporting %s once, to choose; kept in %s", path, folder)
        try:
            times = _measured(path, folder, names)
            with replacing(noted) as temporary:
                temporary.write_text(json.dumps(times), encoding="utf-8")
        except Exception as error:  # exporters raise all kinds, and torch does without them
            logger.warning("runtime=auto: torch, as the export failed: %s", str(error).partition("\n")[0])
            return open_model(path)
    best = min(times, key=lambda name: times[name])
    shown = ", ".join(f"{name} {value:.1f} ms" for name, value in sorted(times.items(), key=lambda one: one[1]))
    logger.info("runtime=auto: %s, the fastest here (a picture: %s)", best, shown)
    _touch(folder)
    return open_model(path) if best == "torch" else exported(_open_kept(path, best, open_runtime), path)


def _read(noted: Path) -> dict[str, float] | None:
    """Milliseconds by runtime; None where there are none, or a file that they belong to is gone."""
    try:
        times = json.loads(noted.read_text(encoding="utf-8"))
        whole = all((noted.parent / FILES[name]).is_file() for name in times if name != "torch")
        return {str(name): float(value) for name, value in times.items()} if times and whole else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


@inference_mode()
def _measured(path: Path, folder: Path, names: Sequence[str]) -> dict[str, float]:
    """Exports for all runtimes; the least milliseconds of each, and of torch, in turns on one picture."""
    done = _export(path, folder, names)
    networks: dict[str, nn.Module] = {"torch": folded(done.eager.network.network)}
    for name in names:
        runtime = open_runtime(folder / FILES[name])
        networks[name] = ExportedNetwork(runtime, description(runtime.metadata, path)["outputs"])
    cases = [Case(name=name, steps=[("run", one)], given=done.pictures[0][:1]) for name, one in networks.items()]
    spent = interleaved(cases, rounds=ROUNDS)
    return {name: min(steps[WHOLE].wall_ms) for name, steps in spent.items()}


def _export(path: Path, folder: Path, names: Sequence[str]) -> Exported:
    """ONNX, and from that OpenVINO; a folder appears whole."""
    with temporary_folder(folder) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, on what it is made of
        done = export(path, new / FILES["onnx"], format="onnx", pictures=sample_pictures, masks="logits")
        if "openvino" in names:
            openvino.convert(new / FILES["onnx"], new / FILES["openvino"], done.eager.metadata)
            _compare(done, new / FILES["openvino"], done.pictures)
        folder.mkdir(exist_ok=True)
        for file in sorted(new.iterdir()):  # .bin before the .xml that needs it
            os.replace(file, folder / file.name)
    _prune()
    return done


def _compare(done: Exported, file: Path, images: Sequence[Float[Tensor, "B 3 H W"]]) -> None:
    check(compare(done.eager.network, open_runtime(file), images), file)


def _in_bfloat16(path: Path, runtime: str | None, is_exported: bool) -> Model:
    if runtime not in (None, "auto", "openvino"):
        raise ConfigError(f"precision=bf16: runtime={runtime} has it not; runtime=openvino has")
    if is_exported and path.suffix.lower() != ".xml":
        raise ConfigError(f"precision=bf16: {path} is not OpenVINO's; give its checkpoint or an .xml file")
    opened = partial(openvino.OpenVino, precision="bf16")
    return exported(opened(path) if is_exported else _open_kept(path, "openvino", opened), path)


def _touch(folder: Path) -> None:
    try:
        os.utime(folder)
    except OSError:  # a cache that cannot be written is still read
        logger.debug("%s cannot be touched", folder)


def _prune() -> None:
    """Only folders that were used least recently go, and only those named as ours are."""
    ours = [one for one in cache_folder().iterdir() if one.is_dir() and len(one.name) == 32]
    for old in sorted(ours, key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
