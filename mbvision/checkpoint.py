"""A checkpoint is one file that rebuilds itself: weights, the network's configuration as plain data, class names.

Training checkpoints are Lightning's, with the key ``mbvision`` added: what rebuilds the network. The only place where
``torch.load`` is called, always with ``weights_only=True``.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mbvision import __version__
from mbvision.backbones.pretrained import check_fit, load_strict
from mbvision.build import build_network, build_tasks, eval_size
from mbvision.checkpoint_checks import CODE, check_container, check_content, check_description, check_state
from mbvision.errors import CheckpointError, MBVisionError
from mbvision.network import Network
from mbvision.state_dicts import check_values, find_state, without_wrappers
from mbvision.tasks.base import Task
from mbvision.writing import replacing

REBUILD_KEYS = ("backbone", "heads", "tasks", "normalize", "input_size", "eval_size", "fit", "crop_fraction")
"""The parts of the configuration that the network and its tasks are made from."""
EXPORTED = (".onnx", ".xml", ".pte", ".pt2", ".mlpackage", ".tflite")
"""What files for other runtimes end in."""


def description(
    config: Mapping[str, Any],
    class_names: Mapping[str, Sequence[str]],
    palettes: Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> dict[str, Any]:
    """What a checkpoint holds beside the weights: plain data only. ``palettes`` are RGB colours of classes, by head."""
    return {
        "version": __version__,
        "config": {key: config[key] for key in REBUILD_KEYS},
        "class_names": {name: list(names) for name, names in class_names.items()},
        "palettes": {name: [list(colour) for colour in colours] for name, colours in (palettes or {}).items()},
    }


def read(path: Path) -> dict[str, Any]:
    """The content of a weight file, on the CPU. Raises `CheckpointError` if it cannot be read."""
    path = Path(path)
    check_file(path)
    if path.suffix == ".safetensors":
        tensors, about = _read_safetensors(path)
        return {"state_dict": tensors} | ({} if about is None else {"mbvision": about})
    check_container(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # others' training arguments: plain attributes
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # many kinds, all meaning that the file is damaged or not ours
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} is not a checkpoint: torch.save did not write it, or it was cut off"
            ) from error
        raise CheckpointError(f"{path} cannot be loaded: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    check_content(path, content)
    if "state_dict" in content:
        check_state(path, content["state_dict"])
    if "sha256" in content and content["sha256"] != weights_digest(content.get("state_dict", {})):
        raise CheckpointError(
            f"{path}: the weights do not match their SHA-256, so the file is damaged; use another copy"
        )
    return content


def _reason(error: Exception) -> str:
    """Why ``torch.load`` failed, in one line."""
    text = str(error).strip()
    if found := re.search(r"GLOBAL (\S+)", text):
        return CODE.format(found[1])
    return text.splitlines()[0] if text else type(error).__name__


def check_file(path: Path) -> None:
    """Raise `CheckpointError` unless there is a regular file; nothing is opened."""
    if path.suffix.lower() in EXPORTED and path.exists():
        raise CheckpointError(
            f"{path} is an exported file: give the checkpoint that it came from"
            " (predict, evaluate and mbvision.load take .onnx, .xml and .pte as well)"
        )
    if not path.is_file():
        what = "not a regular file" if path.exists() else "there is no such checkpoint file"
        raise CheckpointError(f"{path}: {what}")


def read_any(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a checkpoint, a plain state dict or a safetensors file, and the description where it is ours.

    Of others' files see `find_state`. Raises `CheckpointError` as ``read``, and where there are no tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        return _read_safetensors(path)
    content = read(path)
    about = content.get("mbvision")
    if not isinstance(about, dict):
        return find_state(content, path), None
    check_description(path, about)
    check_state(path, content.get("state_dict"))
    return content["state_dict"], about


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); use another copy") from error
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors: it is not a file of weights")
    if "mbvision" not in metadata:
        return without_wrappers(tensors, path), None
    try:
        about = json.loads(metadata["mbvision"])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description is damaged: {error}; export it anew") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{path}: its description is a {type(about).__name__}, not a mapping; export it anew")
    check_description(path, about)
    return tensors, about


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write so that the file is either the old one or the whole new one, whenever the machine stops."""
    buffer = io.BytesIO()  # torch.save straight into a file hides the reason when the disk is full
    torch.save(dict(content), buffer)
    _replace(Path(path), lambda file: file.write(buffer.getbuffer()))


def copy(source: Path, target: Path) -> None:
    """Copy a checkpoint in the same way."""
    with source.open("rb") as original:
        _replace(target, lambda file: shutil.copyfileobj(original, file, 2**20))


def _replace(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """A temporary file in the same folder is filled, put on the disk, and renamed. Raises `CheckpointError`."""
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror}; the old file is as it was") from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def network_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights in a checkpoint (the averaged ones where training averaged)."""
    return {key.removeprefix("network."): value for key, value in content["state_dict"].items()}


def rebuild(content: Mapping[str, Any], path: Path) -> tuple[Network, dict[str, Task[Any, Any]], dict[str, Any]]:
    """The network with its weights, its tasks, and the description in the checkpoint."""
    about = content.get("mbvision")
    if not isinstance(about, dict) or not {"config", "class_names"} <= set(about) or "state_dict" not in content:
        raise CheckpointError(
            f"{path} is not a checkpoint of mbvision: it does not say which network it is for."
            " To start from a plain weight file use pretrained= or backbone.weights="
        )
    check_description(path, about)
    config = about["config"]
    sizes = {name: len(about["class_names"][name]) for name in config["heads"]}
    weights = network_weights(content)
    try:
        with torch.device("meta"):  # what the configuration asks for must fit the weights before it takes memory
            check_fit(build_network(config, sizes), weights)
        if config.get("input_size") is not None:
            eval_size(config)
        with torch.random.fork_rng(devices=[]):  # its random start is overwritten, and the caller's numbers are his own
            network, tasks = build_network(config, sizes), build_tasks(config)
    except MBVisionError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its configuration makes no network ({type(error).__name__}: {error}); train it again"
        ) from error
    load_weights(network, weights, path)
    return network, tasks, about


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load strictly. Raises `CheckpointError` naming the file and the first tensor that differs or is not finite."""
    try:
        load_strict(network, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    check_values(weights, path)


def load(path: str | Path) -> tuple[Network, dict[str, Task[Any, Any]]]:
    """The network with its weights and its tasks by head name, for further training; needs no ``conf/`` and no data."""
    network, tasks, _ = rebuild(read(Path(path)), Path(path))
    return network, tasks


def export_safetensors(checkpoint: Path, path: Path) -> None:
    """Write the weights of a checkpoint as safetensors; the description goes into its metadata."""
    content = read(checkpoint)
    about = rebuild(content, checkpoint)[2]
    weights = {key: value.contiguous() for key, value in network_weights(content).items()}
    write_safetensors(path, weights, {"mbvision": json.dumps(about)})


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """By way of bytes: what goes wrong while safetensors itself writes a file is no OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))
