"""Which keys there are and what kind of value each takes: of the command line, and of the files under ``conf/``.

The command's own file, ``conf/data/scenes.yaml`` and ``conf/trainer/default.yaml`` declare their keys: a recipe may
change a value, never its kind. What a component takes its constructor says (`mbvision.build.make`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mbvision.commands.conf_files import ConfFile, conf_folder, read_conf
from mbvision.commands.ranges import NUMBERS, WORDS, find
from mbvision.errors import ConfigError, nearest

PATH_KEYS = frozenset(
    {
        "annotations",
        "backbone.weights",
        "calibration",
        "checkpoint",
        "data.images",
        "data.root",
        "data.train_split",
        "data.val_split",
        "data.readers.embedding.pairs",
        "distill",
        "distill_pictures",
        "output",
        "output_dir",
        "picture",
        "pictures",
        "predictions",
        "resume",
        "run_dir",
        "source",
        "split",
    }
)
"""Keys whose value is text, on a command line exactly as it is written, whatever signs a file's name holds."""

TEXT_LISTS = re.compile(r"data\.readers\.\w+\.classes")
"""Keys of lists of names: a name is its own text, also where YAML or Hydra would take it for a number or a truth."""

LISTS = re.compile(
    r"batches|data\.sets|dynamic|files|formats|heads\.\w+\.(taps|extra_channels|rates|anchors\.aspect_ratios)"
    r"|tasks\.\w+\.loss\.class_weights|optimizer\.betas|schedule\.milestones"
)
"""Keys of lists, whatever their default is."""

ONE_OR_SEVERAL = re.compile(r"(eval_|input_|transform\.train\.eval_)size|trainer\.devices|data\.readers\.\w+\.void")
"""Keys that take one value or a list; their own code checks it."""

SWITCHES = re.compile(r"optimizer\.fused")
"""Keys of true or false whose default need not be one."""

OPTIONAL = re.compile(
    r"early_stopping|ema_decay|threads|optimizer\.fused|backbone\.hidden|heads\.\w+\.(hidden|rates)"
    r"|tasks\.\w+\.(max_candidates|max_detections_per_class|loss\.(class_weights|ohem_threshold))"
    r"|data\.readers\.\w+\.min_area|trainer\.(gradient_clip_val|max_epochs|check_val_every_n_epoch)"
)
"""Keys that null switches off, whatever their default is."""

PARTS = re.compile(
    r"(backbone|heads|tasks|data|optimizer|schedule|trainer|transform(\.(train|evaluate|mix))?|data\.readers"
    r"|class_slots|published_classes(\.\w+)?)$|(heads|tasks|data\.readers)\."
)
"""Keys that the files of the groups bring."""

NEEDED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "backbone": (
        "mobilenet_v3_large",
        ("_target_", "width", "output_stride", "weights", "dense_tap", "hidden", "hidden_activation"),
    ),
    "data": ("scenes", ()),
    "transform": ("ssd", ("train", "evaluate")),
    "trainer": ("default", ()),
}
"""By group a file to look at, and the keys that heads and commands read; none: all that this file has."""


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every key of nested data by its full path, branches as well as leaves."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found[f"{prefix}{key}"] = value
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{key}.")
    return found


def declared(name: str) -> dict[str, Any]:
    """The keys that the command ``name`` has with any choice of files, with their defaults."""
    found: dict[str, Any] = {}
    pending = [name]
    while pending:
        file = read_conf("", pending.pop())
        found |= flatten(file.content)
        pending += [entry for entry in file.defaults if isinstance(entry, str) and entry != "_self_"]
    for group in ("data", "trainer"):
        content = flatten(read_conf(group, NEEDED[group][0]).content)
        found |= {key: value for key, value in content.items() if "." in key and not key.startswith("data.readers")}
    return found


def check_complete(config: Mapping[str, Any], chosen: Mapping[str, Any], files: Sequence[ConfFile]) -> None:
    """Refuse a file of a group that lacks keys which others read; ``chosen`` are the files' names by group."""
    for group, (example, keys) in NEEDED.items():
        if group not in config or (choice := chosen.get(group)) is None:
            continue
        path = conf_folder() / group / f"{choice}.yaml"
        known = keys or tuple(read_conf(group, example).content[group])
        if not isinstance(config[group], dict) or (missing := [key for key in known if key not in config[group]]):
            lacking = ", ".join(missing) if isinstance(config[group], dict) else ", ".join(known)
            raise ConfigError(f"{path}: has no {lacking}: each must be there, as in conf/{group}/{example}.yaml")
    for key in ("heads", "tasks", "optimizer", "schedule", "transform") if "trainer" in config else ():
        node = config.get(key)
        if not isinstance(node, dict) and not (key == "schedule" and node is None):  # a constant rate
            choice = chosen.get(group := {"heads": "task", "tasks": "task"}.get(key, key))
            where = f"{conf_folder() / group / choice}.yaml: " if node is None and choice else ""
            where = where or source_of(key, node, files)
            raise ConfigError(f"{where}{key}={node}: give a mapping, as the files of conf/ have it")
    parts = {key: config[key] for key in ("heads", "tasks", "transform") if "trainer" in config}
    for key, nodes in {**parts, **_readers(config, files)}.items():
        for name, node in nodes.items() if isinstance(nodes, dict) else ():
            if not isinstance(node, dict) or "_target_" not in node:
                others = [other for other, part in nodes.items() if isinstance(part, dict) and "_target_" in part]
                hint = nearest(str(name), others) or ": name its class or function"
                raise ConfigError(f"{source_of(f'{key}.{name}', node, files)}{key}.{name} has no _target_{hint}")


def _readers(config: Mapping[str, Any], files: Sequence[ConfFile]) -> dict[str, Any]:
    if not isinstance(data := config.get("data"), dict):
        return {}
    if not isinstance(readers := data.get("readers"), dict):
        where = source_of("data.readers", readers, files)
        raise ConfigError(f"{where}data.readers={readers}: give a mapping of tasks, as in conf/data/scenes.yaml")
    return {"data.readers": readers}


def check_known(files: Sequence[ConfFile], config: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse a key in a file that nothing reads: not declared, no part of the configuration, no component's."""
    nodes = flatten(config)
    for file in files:
        own = flatten(file.content)
        for key in own:
            above = key.rpartition(".")[0]
            component = any("_target_" in node for node in (nodes.get(above), own.get(above)) if isinstance(node, dict))
            if not component and key not in known and not PARTS.match(key):
                choices = [other for other in (*known, *nodes) if other != key]
                raise ConfigError(f"{file.path}: {key}: there is no such key{nearest(key, choices)}")


def check_kinds(leaves: Mapping[str, Any], defaults: Mapping[str, Any], source: Callable[[str, Any], str]) -> None:
    """Refuse a value of another kind than its key takes: one or several, true or false, text, keys of its own.

    ``source`` gives the file that a value comes from, for the message.
    """
    for key, value in leaves.items():
        if wanted := _wanted(key, value, defaults.get(key), known=key in defaults):
            raise ConfigError(f"{source(key, value)}{key}={'null' if value is None else str(value)[:100]}: {wanted}")


def _wanted(key: str, value: Any, default: Any, *, known: bool) -> str | None:
    """What to give in the place of a value; None where its kind is right."""
    several = (isinstance(default, list) or LISTS.fullmatch(key)) and not TEXT_LISTS.fullmatch(key)
    switch = (isinstance(default, bool) and find(WORDS, key) is None) or SWITCHES.fullmatch(key)
    numeric = find(NUMBERS, key) is not None or find(WORDS, key) is not None
    if isinstance(default, dict):
        own = ", ".join(f"{key}.{name}" for name in default)
        return None if isinstance(value, dict) else f"it has keys of its own, {own}"
    if isinstance(value, dict):
        return "it has no keys of its own; give one value" if known or numeric else None
    if value is None:
        return "give true or false" if isinstance(default, bool) and not OPTIONAL.fullmatch(key) else None
    if several and not isinstance(value, list):
        return f"give a list, such as [{value}]"
    if isinstance(value, list) and not several and not ONE_OR_SEVERAL.fullmatch(key) and (numeric or switch):
        return "give one value, not a list"
    if switch and not isinstance(value, bool):
        return "give true or false"
    if key in PATH_KEYS and not isinstance(value, str):
        return f"give text: '{value}', in quotes"
    return None


def nullable(defaults: Mapping[str, Any], leaves: Mapping[str, Any]) -> set[str]:
    """The keys that may be null: by declaration, or as a reference to another key."""
    free = {key for key, value in defaults.items() if value is None or "${" in str(value)}
    return free | {key for key in leaves if OPTIONAL.fullmatch(key)}


def source_of(key: str, value: Any, files: Sequence[ConfFile]) -> str:
    """The file that a value stands in, to begin a message with; nothing where it is not from a file."""
    return next(
        (f"{file.path}: " for file in files if key in (own := flatten(file.content)) and str(own[key]) == str(value)),
        "",
    )
