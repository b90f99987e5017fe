"""Weight files: hostile ones run nothing and take no memory, damaged and foreign ones are named, through every key."""

import builtins
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands import fitting
from mbvision.commands.compose import compose_config
from mbvision.commands.distilling import load_teacher
from mbvision.weights import load_pretrained, load_trunk_only
from tests.faults.case import Case

NAMES = {"classification": ["cat", "dog"]}
ARGUMENTS = ["task=classification", "backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=64", "backbone.hidden=64"]
Make = Callable[[], bytes]


@lru_cache(maxsize=1)
def settings() -> dict[str, Any]:
    return compose_config("train", ARGUMENTS)


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    torch.manual_seed(0)
    weights = build_network(settings(), {"classification": 2}).state_dict()
    return {"state_dict": {f"network.{key}": value for key, value in weights.items()}, "mbvision": description()}


def description() -> dict[str, Any]:
    return checkpoint.description(settings(), NAMES)


def content(**changes: Any) -> dict[str, Any]:
    """A checkpoint of ours without training state, with other values of its keys; without those that are ``...``."""
    whole = {**_content(), **changes}
    if "sha256" not in changes and isinstance(whole["state_dict"], dict):
        plain = all(isinstance(value, torch.Tensor) for value in whole["state_dict"].values())
        whole["sha256"] = checkpoint.weights_digest(whole["state_dict"]) if plain else "0" * 64
    return {key: value for key, value in whole.items() if value is not ...}


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def weights(change: Callable[[dict[str, torch.Tensor]], None]) -> bytes:
    """A checkpoint with other weights, whose digest is right."""
    state = dict(_content()["state_dict"])
    change(state)
    return saved(content(state_dict=state))


def config(path: str, value: Any) -> bytes:
    """A checkpoint whose description differs in one key; ``...`` takes the key out."""
    about = deepcopy(description())
    *folders, last = path.split("/")
    node: Any = about
    for folder in folders:
        node = node[folder]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return saved(content(mbvision=about))


def checkpoint_cases() -> Iterator[Case]:
    good = {"of ours": saved(content()), "of ours, the old format": saved(content(), _use_new_zipfile_serialization=False)}
    prefixed = {f"network.{key.removeprefix('network.')}": value.half() if value.is_floating_point() else value for key, value in _content()["state_dict"].items()}
    good["with 16-bit weights"] = saved(content(state_dict=prefixed))
    for name, data in good.items():
        yield _case(name, lambda data=data: data, "load", quick=True, loads=lambda found: found is not None)
    files = {**dict(_hostile()), **dict(_damaged()), **dict(_foreign())}
    for name, make in files.items():
        yield _case(name, make, "load", error=("w.ckpt",), quick=name in ("os.system", "cut", "zip of zeros", "not finite"))
    for name, path, value in _descriptions():
        shown = str(value)[:40] if value is not ... else "missing"
        yield _case(f"{name}: {path} {shown}", lambda p=path, v=value: config(p, v), "load", error=("w.ckpt",))
    for door in ("pretrained", "backbone.weights", "distill", "resume"):
        for name in ("os.system", "a hidden eval", "a byte array of 3 GiB", "zip of zeros", "cut", "not finite", "a list", "a folder of tensors", "no tensors"):
            yield _case(f"{door}= {name}", files[name], door, error=("w.ckpt",), quick=name == "os.system")
        yield _case(f"{door}= a description that reads files", lambda: config("config/heads/classification/_target_", "mbvision.data.celeba.celeba"), door, error=("w.ckpt",) if door in ("distill", "resume") else ("w.ckpt",), loads=(lambda _: True) if door in ("pretrained", "backbone.weights") else None)
    yield from _places()
    yield from _safetensors()


def _case(name: str, make: Make, door: str, *, file: str = "w.ckpt", quick: bool = False, **expected: Any) -> Case:
    def write(folder: Path) -> Path:
        (folder / file).write_bytes(make())
        return folder / file

    return Case(kind="checkpoint", name=name, make=write, use=lambda path: through(door, path), quick=quick, **expected)


def through(door: str, path: Path) -> Any:
    """A weight file through one of the keys that take one."""
    if door == "load":
        return checkpoint.load(path)
    network = build_network(settings(), {"classification": 2})
    if door == "pretrained":
        return load_pretrained(network, str(path), architecture="mobilenet_v3_small", class_names=NAMES)
    if door == "backbone.weights":
        return load_trunk_only(network, str(path), architecture="mobilenet_v3_small")
    if door == "distill":
        from mbvision.build import build_tasks

        return load_teacher({**settings(), "distill": str(path)}, network, build_tasks(settings()), NAMES)
    return fitting.check_resumable(settings(), path)


class Calls:
    """An object whose reading calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _hostile() -> Iterator[tuple[str, Make]]:
    touch = "touch ../outside/pwned"
    calls: dict[str, Any] = {
        "os.system": Calls(os.system, touch),
        "eval": Calls(builtins.eval, "__import__('os').system('touch ../outside/pwned')"),
        "a hidden eval": {"state_dict": OrderedDict(a=Calls(builtins.exec, f"import os; os.system({touch!r})"))},
        "open": Calls(open, "../outside/pwned", "w"),
        "a module": Calls(nn.Linear, 3, 3),
        "torch.load in torch.load": Calls(torch.load, "../outside/secret.txt"),
        "a byte array of 3 GiB": {"a": Calls(bytearray, 3 * 1024**3)},
    }
    for name, value in calls.items():
        yield name, lambda value=value: saved(value)
        yield f"{name}, the old format", lambda value=value: saved(value, _use_new_zipfile_serialization=False)
        yield f"{name}, a bare pickle", lambda value=value: pickle.dumps(value, protocol=2)
    yield "a bare pickle of protocol 5", lambda: pickle.dumps(calls["os.system"], protocol=5)
    yield "zip of zeros", lambda: _compressed(bytes(1500 * 1024**2))
    one = torch.zeros(1)
    yield "one value, repeated 10 billion times", lambda: saved(content(state_dict={"network.a": one.expand(100_000, 100_000)}, sha256="0" * 64))
    yield "a repeated value beside the weights", lambda: saved(content(optimizer_states=[one.expand(100_000, 100_000)]))
    yield "a sparse tensor", lambda: saved({"state_dict": {"a": torch.sparse_coo_tensor(torch.zeros(2, 1), torch.ones(1), (10**6, 10**6))}})
    yield "a tensor without data", lambda: saved({"state_dict": {"a": torch.empty(10**6, 10**6, device="meta")}})
    nested: Any = []
    for _ in range(40):
        nested = [nested, nested]
    yield "lists that unfold to 2^40", lambda: saved(content(mbvision={**description(), "config": {**description()["config"], "backbone": nested}}))
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    yield "nested 200 deep", lambda: saved(content(more=deep))
    ring: list[Any] = []
    ring.append(ring)
    yield "a list in itself", lambda: saved(content(mbvision={**description(), "class_names": {"classification": ring}}))
    yield "a tensor larger than its storage", lambda: _with_pickle(b"(K\x02K\x02t", b"(J\xff\xff\xff\x7fK\x02t")


def _compressed(value: bytes) -> bytes:
    """A checkpoint whose weights are packed; torch's reader unpacks them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(2, 2)}))) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for info in old.infolist():
            new.writestr(info.filename, value if info.filename.endswith("data/0") else old.read(info))
    return buffer.getvalue()


def _with_pickle(old: bytes, new: bytes) -> bytes:
    """A checkpoint with another piece of its pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(2, 2)}))) as whole, zipfile.ZipFile(buffer, "w") as changed:
        for info in whole.infolist():
            data = whole.read(info)
            changed.writestr(info.filename, data.replace(old, new) if info.filename.endswith("data.pkl") else data)
    return buffer.getvalue()


def _damaged() -> Iterator[tuple[str, Make]]:
    data = saved(content())
    yield "empty", lambda: b""
    yield "text", lambda: b"weights\n" * 100
    yield "noise", lambda: np.random.default_rng(3).bytes(10_000)
    yield "zeros", lambda: bytes(10_000)
    for share in (0.01, 0.5, 0.99):
        yield "cut" if share == 0.5 else f"cut at {share:.0%}", lambda share=share: data[: int(len(data) * share)]
    for share in (0.3, 0.7):
        yield f"a flipped byte at {share:.0%}", lambda n=int(len(data) * share): data[:n] + bytes([data[n] ^ 64]) + data[n + 1 :]
    yield "a wrong SHA-256", lambda: saved(content(sha256="0" * 64))
    yield "a SHA-256 that is a number", lambda: saved(content(sha256=5))
    yield "not finite", lambda: weights(lambda state: state.__setitem__(*_spoiled(state, float("nan"))))
    yield "infinite", lambda: weights(lambda state: state.__setitem__(*_spoiled(state, float("inf"))))
    key = "network.backbone.stem.conv.weight"
    yield "whole numbers for weights", lambda: weights(lambda state: state.__setitem__(key, torch.ones_like(state[key]).int()))
    yield "a wrong shape", lambda: weights(lambda state: state.__setitem__(key, state[key][:-1].clone()))
    yield "a layer missing", lambda: weights(lambda state: state.__delitem__(key))
    yield "a layer too many", lambda: weights(lambda state: state.__setitem__("network.more", torch.ones(3)))
    yield "names that are numbers", lambda: saved(content(state_dict={1: torch.ones(1)}, sha256="0"))
    yield "a text for a weight", lambda: weights(lambda state: state.__setitem__(key, "x"))


def _spoiled(state: dict[str, torch.Tensor], value: float) -> tuple[str, torch.Tensor]:
    key = next(key for key, tensor in state.items() if tensor.ndim == 4 and "conv" in key)
    tensor = state[key].clone()
    tensor.view(-1)[0] = value
    return key, tensor


def _foreign() -> Iterator[tuple[str, Make]]:
    yield "a list", lambda: saved([torch.ones(2)])
    yield "a tensor", lambda: saved(torch.ones(2))
    yield "no tensors", lambda: saved({"state_dict": {}, "epoch": 3})
    yield "a folder of tensors", lambda: saved({"model": {"a": {"b": torch.ones(2)}}})
    yield "a plain state dict", lambda: saved(nn.Linear(2, 2).state_dict())
    yield "without a description", lambda: saved(content(mbvision=...))
    yield "without weights", lambda: saved(content(state_dict=...))
    yield "weights that are a list", lambda: saved(content(state_dict=[1, 2]))
    yield "a description that is a text", lambda: saved(content(mbvision="mobilenet"))
    yield "a NumPy file", lambda: _numpy({"a": np.ones(3)})
    yield "a whole module", lambda: saved(nn.Linear(2, 2))
    yield "a TorchScript archive", _script
    yield "an ordinary zip", lambda: _zip({"readme.txt": b"hello"})


def _numpy(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _script() -> bytes:
    return _zip({"a/data.pkl": b"\x80\x02}.", "a/constants.pkl": b"\x80\x02).", "a/version": b"3\n", "a/code/x.py": b"import os\n"})


def _descriptions() -> Iterator[tuple[str, str, Any]]:
    for target in ("os.system", "builtins.eval", "torch.load", "subprocess.Popen", "mbvision.commands.train.main", "mbvision.data.scenes.scenes", "", None, 5, ["os.system"], {"a": 1}):
        for node in ("backbone", "heads/classification", "tasks/classification"):
            yield "a target", f"config/{node}/_target_", target
    yield "an argument", "config/backbone/evil", "x"
    yield "a nested target", "config/backbone/width", {"_target_": "os.system", "command": "touch ../outside/pwned"}
    yield "a nested target", "config/tasks/classification/loss", {"_target_": "os.system", "command": "touch ../outside/pwned"}
    for key in ("backbone", "heads", "tasks", "normalize"):
        for value in (..., None, [], "x", 5):
            yield "a part", f"config/{key}", value
    for value in (-1, 0, 1e9, float("nan"), "wide", [1], True, 10**400):
        yield "a width", "config/backbone/width", value
    for value in ("banana", -5, 10**9, [10**6, 10**6], [64], float("nan"), "64"):
        yield "a size", "config/input_size", value
    for value in (None, [], [1, 2], ["a", "b", "c"], [float("nan")] * 3, "abc", [10**400] * 3):
        yield "a mean", "config/normalize/mean", value
    for value in (None, "c5", [1], [["c5"]], ["c99"], [], ["c5"] * 100_000):
        yield "taps", "config/heads/classification/taps", value
    for value in (None, {}, [], "cat", {"classification": "catdog"}, {"classification": [1, 2]}, {"other": ["a"]}, {"classification": ["a", "b", "c"]}, {"classification": []}):
        yield "class names", "class_names", value
    for value in ([], {"classification": "red"}, {"classification": [[1, 2]]}, {"classification": [[1, 2, 300]]}):
        yield "palettes", "palettes", value
    yield "heads", "config/heads/more", {"_target_": "mbvision.heads.classifier.Classifier", "taps": ["c5"]}


def _places() -> Iterator[Case]:
    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "w.ckpt")
        return folder / "w.ckpt"

    for door in ("load", "pretrained", "backbone.weights", "distill", "resume"):
        for name, make in {"a pipe": pipe, "missing": lambda folder: folder / "w.ckpt", "a folder": lambda folder: folder}.items():
            yield Case(kind="checkpoint", name=f"{door}: {name}", make=make, use=lambda path, door=door: through(door, path), error=("in",))


def _safetensors() -> Iterator[Case]:
    state = {key.removeprefix("network."): value.contiguous() for key, value in _content()["state_dict"].items()}
    good = safetensors_bytes(state, metadata={"mbvision": json.dumps(description())})

    def lying(header: Any) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + bytes(64)

    wrong: dict[str, Make] = {
        "cut": lambda: good[:5000],
        "empty": lambda: b"",
        "a header of 2^60 bytes": lambda: struct.pack("<Q", 2**60) + good[8:],
        "a header that is no JSON": lambda: lying(b"x" * 50),
        "offsets past the end": lambda: lying({"a": {"dtype": "F32", "shape": [10**6], "data_offsets": [0, 4 * 10**6]}}),
        "a shape that is not its bytes": lambda: lying({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 64]}}),
        "negative offsets": lambda: lying({"a": {"dtype": "F32", "shape": [16], "data_offsets": [-64, 0]}}),
        "overlapping tensors": lambda: lying({k: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for k in "ab"}),
        "no tensors": lambda: safetensors_bytes({"a": torch.ones(1)})[:0] + lying({}),
        "a description that is no JSON": lambda: safetensors_bytes(state, metadata={"mbvision": "{"}),
        "a description that is a list": lambda: safetensors_bytes(state, metadata={"mbvision": "[]"}),
        "a description nested 100,000 deep": lambda: safetensors_bytes(state, metadata={"mbvision": "[" * 100_000}),
        "a description without classes": lambda: safetensors_bytes(state, metadata={"mbvision": "{}"}),
        "a pickle": lambda: saved(Calls(os.system, "touch ../outside/pwned")),
    }
    for door in ("pretrained", "backbone.weights"):
        yield _case(f"{door}= safetensors", lambda: good, door, file="w.safetensors", loads=lambda _: True)
        for name, make in wrong.items():
            yield _case(f"{door}= safetensors: {name}", make, door, file="w.safetensors", error=("w.safetensors",))
