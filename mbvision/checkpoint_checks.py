"""What a weight file may hold, checked before anything is made from it: a stranger wrote it, perhaps in bad faith."""

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mbvision.errors import CheckpointError

CODE = (
    "it holds the Python object {}, and objects can run code, so only tensors and plain data are read;"
    " save the weights alone: torch.save(model.state_dict(), FILE)"
)
_MAX_PICKLE_BYTES = 256 * 1024**2
_LEGACY_PICKLES = 5  # magic number, version, machine, content, names of the storages
_MOST_NODES = 2_000_000
_MOST_CONFIG_NODES = 2000
_MAX_DEPTH = 32
_MAX_TEXT = 10_000
# torch's own list has more: byte arrays of any length, quantised and sparse tensors, tensors without data.
_PLAIN_NAMES = re.compile(
    r"collections\.(OrderedDict|Counter|defaultdict)|torch\.(Size|device|strided|Tensor|\w*Storage)"
    r"|torch\.(bool|(float|bfloat|complex|u?int)\w*|half|double|long|short)|torch\.storage\.\w+Storage"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)"
    r"|torch\.nn\.parameter\.(Parameter|Buffer)|torch\.serialization\._get_layout|_codecs\.encode|argparse\.Namespace"
)


def check_container(path: Path) -> None:
    """Refuse what unpacks to more than it is, or names Python objects, before ``torch.load`` sees it.

    A file that is no checkpoint at all is left to ``torch.load``.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            file.seek(0)
            for _ in range(_LEGACY_PICKLES):
                if not _check_names(path, file):
                    return
            return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any("/code/" in member.filename for member in members):
                raise CheckpointError(f"{path} is a TorchScript file: save the network's state_dict() instead")
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise CheckpointError(f"{path} is compressed, as torch.save leaves no file: unpack it, or save it anew")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise CheckpointError(f"{path} claims to hold more bytes than it has: it is damaged, or made to harm")
            for member in members:
                if member.filename.endswith("data.pkl") and member.file_size <= _MAX_PICKLE_BYTES:
                    with archive.open(member) as file:
                        _check_names(path, file)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint ({error}): it was cut off or damaged") from error


def _check_names(path: Path, file: IO[bytes]) -> bool:
    """Go over one pickle without running it; whether it is one."""
    try:
        for operation, argument, _ in pickletools.genops(file):
            name = str(argument).replace(" ", ".")
            if operation.name in ("GLOBAL", "INST") and not _PLAIN_NAMES.fullmatch(name):
                name = re.sub(r"^(__builtin__|builtins)\.", "", name)
                raise CheckpointError(f"{path} cannot be loaded: {CODE.format(name)}")
            if operation.name in ("STACK_GLOBAL", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
                return True  # torch.load knows none of them but NEWOBJ, for the names above
    except (ValueError, OverflowError, MemoryError, RecursionError, IndexError):
        return False
    return True


def check_content(path: Path, content: Mapping[Any, Any]) -> None:
    """Refuse tensors that are no plain arrays of their own values, wherever they are, and nesting without end."""
    level: list[Any] = [content]
    seen: set[int] = set()
    for _ in range(_MAX_DEPTH):
        children: list[Any] = []
        for value in level:
            if isinstance(value, Tensor):
                _check_tensor(path, value)
            elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
                seen.add(id(value))
                children += value.values() if isinstance(value, Mapping) else value
        if len(seen) > _MOST_NODES:
            break
        if not children:
            return
        level = children
    raise CheckpointError(f"{path} is nested more deeply than any checkpoint: it is damaged, or made to harm")


def _check_tensor(path: Path, tensor: Tensor) -> None:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{path} holds a tensor of shape {list(tensor.shape)[:8]} that is no plain array of its values: save"
            " dense tensors of the CPU"
        )


def check_state(path: Path, state: Any) -> None:
    """Refuse what is no mapping from names to tensors."""
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds a {type(state).__name__} where the weights should be; save a state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: state_dict[{str(name)[:60]!r}] is a {type(value).__name__}, not a tensor")


def check_description(path: Path, about: Mapping[str, Any]) -> None:
    """Refuse a description that could not have come from a run: other types, missing parts, values without end."""
    config, names = about.get("config"), about.get("class_names")
    if not isinstance(config, dict) or not isinstance(names, dict):
        raise _wrong(path, "config and class_names", "must be mappings")
    _check_plain(path, config, "config", _MOST_CONFIG_NODES)
    for key in ("backbone", "heads", "tasks", "normalize"):
        if not isinstance(config.get(key), dict):
            raise _wrong(path, f"config.{key}", "must be a mapping")
    for key in ("heads", "tasks"):
        for name, node in config[key].items():
            if not isinstance(node, dict):
                raise _wrong(path, f"config.{key}.{name}", "must be a mapping")
    for name, head in config["heads"].items():
        taps = head.get("taps")
        if not isinstance(taps, list) or not all(isinstance(tap, str) for tap in taps):
            raise _wrong(path, f"config.heads.{name}.taps", "must be a list of names")
        if not isinstance(names.get(name), list) or not all(isinstance(one, str) for one in names[name]):
            raise _wrong(path, f"class_names.{name}", "must be a list of names")
    for key in ("mean", "std"):
        values = config["normalize"].get(key)
        if not isinstance(values, list) or len(values) != 3 or not all(map(_is_finite, values)):
            raise _wrong(path, f"config.normalize.{key}", "must be three numbers")
    _check_plain(path, about.get("palettes", {}), "palettes", _MOST_NODES)
    palettes = about.get("palettes", {})
    if not isinstance(palettes, dict) or not all(map(_is_palette, palettes.values())):
        raise _wrong(path, "palettes", "must be lists of [red, green, blue]")


def _check_plain(path: Path, value: Any, where: str, most: int) -> None:
    """Plain data, and not too much of it: a few lists that hold one another several times would unfold without end."""
    level = [value]
    count = 0
    for _ in range(_MAX_DEPTH):
        children: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                if not all(isinstance(key, str) and len(key) < 200 for key in one):
                    raise _wrong(path, where, "must have names as keys")
                children += one.values()
            elif isinstance(one, list | tuple):
                children += one
            elif isinstance(one, str) and len(one) > _MAX_TEXT:
                raise _wrong(path, where, f"holds a text of {len(one)} characters")
            elif one is not None and not isinstance(one, str | int | float):
                raise _wrong(path, where, f"holds a {type(one).__name__}, not plain data")
        count += len(children)
        if count > most:
            break
        if not children:
            return
        level = children
    raise _wrong(path, where, "holds more than any run writes")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e6


def _is_palette(colours: Any) -> bool:
    return isinstance(colours, list) and all(
        isinstance(c, list | tuple) and len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c)
        for c in colours
    )


def _wrong(path: Path, where: str, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: its description is damaged: {where} {what}; train the network again")
