"""Weight files to make cases of: whole ones, hostile ones, damaged ones and those of others."""

import builtins
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands.compose import compose_config

NAMES = {"classification": ["cat", "dog"]}
ARGUMENTS = [
    "task=classification",
    "backbone=mobilenet_v3_small",
    "backbone.width=0.35",
    "input_size=64",
    "backbone.hidden=64",
]
Make = Callable[[], bytes]


@lru_cache(maxsize=1)
def settings() -> dict[str, Any]:
    return compose_config("train", ARGUMENTS)


@lru_cache(maxsize=1)
def whole() -> dict[str, Any]:
    torch.manual_seed(0)
    weights = build_network(settings(), {"classification": 2}).state_dict()
    return {"state_dict": {f"network.{key}": value for key, value in weights.items()}, "mbvision": description()}


def description() -> dict[str, Any]:
    return checkpoint.description(settings(), NAMES)


def content(**changes: Any) -> dict[str, Any]:
    """A checkpoint of ours without training state, with other values of its keys; without those that are ``...``."""
    parts = {**whole(), **changes}
    if "sha256" not in changes and isinstance(parts["state_dict"], dict):
        plain = all(isinstance(value, torch.Tensor) for value in parts["state_dict"].values())
        parts["sha256"] = checkpoint.weights_digest(parts["state_dict"]) if plain else "0" * 64
    return {key: value for key, value in parts.items() if value is not ...}


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def weights(change: Callable[[dict[str, torch.Tensor]], None]) -> bytes:
    """A checkpoint with other weights, whose digest is right."""
    state = dict(whole()["state_dict"])
    change(state)
    return saved(content(state_dict=state))


class Calls:
    """An object whose reading calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hostile() -> Iterator[tuple[str, Make]]:
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
    yield "zip of zeros", lambda: _compressed(bytes(64 * 1024**2))
    one = torch.zeros(1)
    yield (
        "one value, repeated 10 billion times",
        lambda: saved(content(state_dict={"network.a": one.expand(100_000, 100_000)}, sha256="0" * 64)),
    )
    yield "a repeated value beside the weights", lambda: saved(content(optimizer_states=[one.expand(100_000, 100_000)]))
    yield (
        "a sparse tensor",
        lambda: saved({"state_dict": {"a": torch.sparse_coo_tensor(torch.zeros(2, 1), torch.ones(1), (10**6, 10**6))}}),
    )
    yield "a tensor without data", lambda: saved({"state_dict": {"a": torch.empty(10**6, 10**6, device="meta")}})
    nested: Any = []
    for _ in range(40):
        nested = [nested, nested]
    yield (
        "lists that unfold to 2^40",
        lambda: saved(content(mbvision={**description(), "config": {**description()["config"], "backbone": nested}})),
    )
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    yield "nested 200 deep", lambda: saved(content(more=deep))
    ring: list[Any] = []
    ring.append(ring)
    yield (
        "a list in itself",
        lambda: saved(content(mbvision={**description(), "class_names": {"classification": ring}})),
    )
    yield "a tensor larger than its storage", lambda: _with_pickle(b"(K\x02K\x02t", b"(J\xff\xff\xff\x7fK\x02t")


def _compressed(value: bytes) -> bytes:
    """A checkpoint whose weights are packed; torch's reader unpacks them."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(2, 2)}))) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
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


def damaged() -> Iterator[tuple[str, Make]]:
    data = saved(content())
    yield "empty", lambda: b""
    yield "text", lambda: b"weights\n" * 100
    yield "noise", lambda: np.random.default_rng(3).bytes(10_000)
    yield "zeros", lambda: bytes(10_000)
    for share in (0.01, 0.5, 0.99):
        yield "cut" if share == 0.5 else f"cut at {share:.0%}", lambda share=share: data[: int(len(data) * share)]
    for share in (0.3, 0.7):
        place = int(len(data) * share)
        flipped = data[:place] + bytes([data[place] ^ 64]) + data[place + 1 :]
        yield f"a flipped byte at {share:.0%}", lambda flipped=flipped: flipped
    yield "a wrong SHA-256", lambda: saved(content(sha256="0" * 64))
    yield "a SHA-256 that is a number", lambda: saved(content(sha256=5))
    yield "not finite", lambda: weights(lambda state: state.__setitem__(*_spoiled(state, float("nan"))))
    yield "infinite", lambda: weights(lambda state: state.__setitem__(*_spoiled(state, float("inf"))))
    key = "network.backbone.stem.conv.weight"
    yield (
        "whole numbers for weights",
        lambda: weights(lambda state: state.__setitem__(key, torch.ones_like(state[key]).int())),
    )
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


def foreign() -> Iterator[tuple[str, Make]]:
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
    return _zip(
        {
            "a/data.pkl": b"\x80\x02}.",
            "a/constants.pkl": b"\x80\x02).",
            "a/version": b"3\n",
            "a/code/x.py": b"import os\n",
        }
    )
