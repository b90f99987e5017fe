"""Weight files: hostile ones run nothing and take no memory, damaged and foreign ones are named, through every key."""

import json
import os
import struct
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands import resuming
from mbvision.commands.distilling import load_teacher
from mbvision.weights import load_pretrained, load_trunk_only
from tests.faults.case import Case
from tests.faults.weight_files import (
    NAMES,
    Calls,
    Make,
    content,
    damaged,
    description,
    foreign,
    hostile,
    saved,
    settings,
    whole,
)


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
    good = {
        "of ours": saved(content()),
        "of ours, the old format": saved(content(), _use_new_zipfile_serialization=False),
    }
    prefixed = {
        f"network.{key.removeprefix('network.')}": value.half() if value.is_floating_point() else value
        for key, value in whole()["state_dict"].items()
    }
    good["with 16-bit weights"] = saved(content(state_dict=prefixed))
    for name, data in good.items():
        yield _case(name, lambda data=data: data, "load", quick=True, loads=lambda found: found is not None)
    files = {**dict(hostile()), **dict(damaged()), **dict(foreign())}
    for name, make in files.items():
        yield _case(
            name, make, "load", error=("w.ckpt",), quick=name in ("os.system", "cut", "zip of zeros", "not finite")
        )
    for name, path, value in _descriptions():
        shown = str(value)[:40] if value is not ... else "missing"
        yield _case(f"{name}: {path} {shown}", lambda p=path, v=value: config(p, v), "load", error=("w.ckpt",))
    for door in ("pretrained", "backbone.weights", "distill", "resume"):
        for name in (
            "os.system",
            "a hidden eval",
            "a byte array of 3 GiB",
            "zip of zeros",
            "cut",
            "not finite",
            "a list",
            "a folder of tensors",
            "no tensors",
        ):
            yield _case(f"{door}= {name}", files[name], door, error=("w.ckpt",), quick=name == "os.system")
        yield _case(
            f"{door}= a description that reads files",
            lambda: config("config/heads/classification/_target_", "mbvision.data.celeba.celeba"),
            door,
            error=("w.ckpt",),
            loads=(lambda _: True) if door in ("pretrained", "backbone.weights") else None,
        )
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
    return resuming.check_resumable(settings(), path)


def _descriptions() -> Iterator[tuple[str, str, Any]]:
    for target in (
        "os.system",
        "builtins.eval",
        "torch.load",
        "subprocess.Popen",
        "mbvision.commands.train.main",
        "mbvision.data.scenes.scenes",
        "",
        None,
        5,
        ["os.system"],
        {"a": 1},
    ):
        for node in ("backbone", "heads/classification", "tasks/classification"):
            yield "a target", f"config/{node}/_target_", target
    yield "an argument", "config/backbone/evil", "x"
    yield "a nested target", "config/backbone/width", {"_target_": "os.system", "command": "touch ../outside/pwned"}
    yield (
        "a nested target",
        "config/tasks/classification/loss",
        {"_target_": "os.system", "command": "touch ../outside/pwned"},
    )
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
    for value in (
        None,
        {},
        [],
        "cat",
        {"classification": "catdog"},
        {"classification": [1, 2]},
        {"other": ["a"]},
        {"classification": ["a", "b", "c"]},
        {"classification": []},
    ):
        yield "class names", "class_names", value
    for value in ([], {"classification": "red"}, {"classification": [[1, 2]]}, {"classification": [[1, 2, 300]]}):
        yield "palettes", "palettes", value
    yield "heads", "config/heads/more", {"_target_": "mbvision.heads.classifier.Classifier", "taps": ["c5"]}


def _places() -> Iterator[Case]:
    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "w.ckpt")
        return folder / "w.ckpt"

    for door in ("load", "pretrained", "backbone.weights", "distill", "resume"):
        for name, make in {
            "a pipe": pipe,
            "missing": lambda folder: folder / "w.ckpt",
            "a folder": lambda folder: folder,
        }.items():
            yield Case(
                kind="checkpoint",
                name=f"{door}: {name}",
                make=make,
                use=lambda path, door=door: through(door, path),
                error=("in",),
            )


def _safetensors() -> Iterator[Case]:
    state = {key.removeprefix("network."): value.contiguous() for key, value in whole()["state_dict"].items()}
    good = safetensors_bytes(state, metadata={"mbvision": json.dumps(description())})

    def lying(header: Any) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + bytes(64)

    wrong: dict[str, Make] = {
        "cut": lambda: good[:5000],
        "empty": lambda: b"",
        "a header of 2^60 bytes": lambda: struct.pack("<Q", 2**60) + good[8:],
        "a header that is no JSON": lambda: lying(b"x" * 50),
        "offsets past the end": lambda: lying(
            {"a": {"dtype": "F32", "shape": [10**6], "data_offsets": [0, 4 * 10**6]}}
        ),
        "a shape that is not its bytes": lambda: lying(
            {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 64]}}
        ),
        "negative offsets": lambda: lying({"a": {"dtype": "F32", "shape": [16], "data_offsets": [-64, 0]}}),
        "overlapping tensors": lambda: lying(
            {k: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for k in "ab"}
        ),
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
