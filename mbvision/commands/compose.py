"""From a command line to a checked configuration."""

import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from mbvision.commands.conf_files import ConfFile, choices, conf_folder, read_conf, read_files
from mbvision.commands.data_sets import check_beside_sets
from mbvision.commands.extras import check_extras
from mbvision.commands.kinds import (
    TEXT_LISTS,
    check_complete,
    check_kinds,
    check_known,
    declared,
    flatten,
    nullable,
    source_of,
)
from mbvision.commands.overrides import expand_sweeps, explain, no_such, quoted, warn_of_repeats
from mbvision.commands.ranges import check_values
from mbvision.errors import ConfigError, nearest

__all__ = ["compose_config", "conf_folder", "expand_sweeps", "flatten", "wants_help"]

SUITED = {
    "detection": "ssd",
    "segmentation": "segmentation",
    "classification": "classification",
    "attributes": "faces",
    "embedding": "faces",
}
"""The augmentation of each head; of several heads the first one here decides."""

REPLACED, MERGED = ("data", "optimizer", "schedule", "transform"), ("variant", "trainer")
"""Groups whose file, chosen on the command line, outranks the recipe: as a whole, as its numbers belong to another
component, or with the keys that the file itself states. Of the other groups the recipe's keys stay on top."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What a choice of files gives, references unresolved: the files' names by group, and what they state."""

    config: dict[str, Any]
    chosen: Mapping[str, Any]
    files: Sequence[ConfFile]


def compose_config(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration ``conf/NAME.yaml`` with ``key=value`` arguments, as plain data with every reference resolved.

    Raises `ConfigError` naming the key, the value and the nearest right spelling or the choices.
    """
    warn_of_repeats(arguments)
    overrides = [quoted(argument) for argument in arguments]
    for argument in arguments:
        key, _, value = argument.partition("=")
        if _is_group(key) and not value.startswith("[") and value not in (known := choices(key)):
            raise ConfigError(no_such(key, value, known))
    groups = [override for override in overrides if _is_group(override.partition("=")[0])]
    keys = declared(name)
    files: Sequence[ConfFile] = ()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
            choice = _with_command_line(name, groups)
            files = choice.files
            keys = flatten(choice.config) | keys
            check_complete(choice.config, choice.chosen, files)
            check_known(files, choice.config, declared(name))
            result = _with_values(choice.config, [override for override in overrides if override not in groups])
            if (sets := result.get("data", {}).get("sets")) is not None:
                check_beside_sets(sets, arguments)
                result["data"]["sets"] = [_data_set(name, number, one) for number, one in enumerate(sets)]
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: GROUP=null
        raise ConfigError(explain(overrides, error, list(keys), files)) from error
    given = {override.partition("=")[0] for override in overrides}
    leaves = flatten(result)

    def source(key: str, value: Any) -> str:
        return "" if key in given else source_of(key, value, files)

    check_kinds(leaves, keys, source)
    if missing := [key for key, value in result.items() if value == "???"]:
        raise ConfigError(f"{missing[0]}= is missing: say {missing[0]}=...; --help shows the keys")
    check_values(leaves, nullable(keys, leaves), source)
    check_extras(result)
    return result


def _is_group(key: str) -> bool:
    return bool(key) and (conf_folder() / key).is_dir()


def _with_command_line(name: str, groups: Sequence[str]) -> _Choice:
    """A choice of files, where those of the command line outrank the recipe, and with the transform for the heads."""
    choice = _with_transform(name, tuple(groups))
    given = dict(group.partition("=")[::2] for group in groups)
    if given.get("experiment", "null") == "null":
        return choice
    config = deepcopy(choice.config)
    recipe = _with_transform(name, (f"experiment={given['experiment']}",)).chosen
    without = _with_transform(name, tuple(one for one in groups if not one.startswith("experiment=")))
    for group in REPLACED + MERGED:
        file = given.get(group)
        # The default trainer states no wish of its own: it is what every recipe starts from.
        if file is None or file == str(recipe.get(group)) or (group, file) == ("trainer", "default"):
            continue
        if group in MERGED:
            own = read_conf(group, file).content
            # Of two mappings it is a mapping, which its annotation does not say.
            config = OmegaConf.to_container(OmegaConf.merge(config, own))  # type: ignore[assignment]
        else:
            config[group] = without.config[group]
    if "task" in given:  # the recipe may set keys of a head that the command line replaced, and of its augmentation
        for part in ("heads", "tasks"):
            config[part] = {head: node for head, node in config[part].items() if "_target_" in node}
        if without.chosen["transform"] != recipe["transform"]:
            config["transform"] = without.config["transform"]
    _tell(given["experiment"], flatten(choice.config), flatten(config))
    return _Choice(config=config, chosen=choice.chosen, files=choice.files)


def _tell(recipe: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Say which values of a recipe the command line's files replace."""
    changed = [
        f"{key}={after[key]} (not {value})" if key in after else f"no {key}"
        for key, value in before.items()
        if not isinstance(value, dict) and (key not in after or after[key] != value)
    ]
    if changed:
        logger.info("the command line outranks experiment=%s: %s", recipe, ", ".join(changed))


def _with_transform(name: str, groups: tuple[str, ...]) -> _Choice:
    """The augmentation that suits the heads, unless the arguments or the experiment name one."""
    choice = _compose(name, groups)
    heads = choice.config.get("heads")
    transform = choice.config.get("transform") or {}
    chosen = not isinstance(transform, dict) or "_target_" in (transform.get("train") or {})
    if not isinstance(heads, dict) or chosen:
        return choice
    _check_tasks(groups)
    transform = next((transform for head, transform in SUITED.items() if "_target_" in (heads.get(head) or {})), None)
    return _compose(name, (*groups, f"transform={transform}")) if transform else choice


def _compose(name: str, groups: tuple[str, ...]) -> _Choice:
    """What Hydra composes of a choice of files, each of which is checked first; names in them are their own text."""
    places = [
        (key, choice.strip())
        for key, _, value in (group.partition("=") for group in groups)
        for choice in value.strip("[]").split(",")
    ]
    files = read_files(name, places)
    versions = tuple((file.path, file.version) for file in files)
    config, chosen = deepcopy(_composed(conf_folder(), name, groups, versions))
    for file in reversed(files):
        for key, value in flatten(file.content).items():
            node = config
            *parts, last = key.split(".")
            for part in parts:
                node = node.get(part, {}) if isinstance(node, dict) else {}
            if TEXT_LISTS.fullmatch(key) and isinstance(value, list) and isinstance(node.get(last), list):
                node[last] = value
    return _Choice(config=config, chosen=chosen, files=files)


@lru_cache(maxsize=64)
def _composed(folder: Path, name: str, groups: tuple[str, ...], versions: tuple[Any, ...]) -> tuple[Any, Any]:
    """The configuration and the files' names by group; ``folder`` is the one that Hydra was set up with."""
    config: Any = OmegaConf.to_container(
        compose(config_name=name, overrides=list(groups), return_hydra_config=True), resolve=False
    )
    return config, config.pop("hydra")["runtime"]["choices"]


def _with_values(base: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A choice of files with the plain values of a command line, every reference resolved."""
    config = OmegaConf.create(dict(base))
    OmegaConf.set_struct(config, True)
    parser = OverridesParser.create()
    for parsed in map(parser.parse_override, overrides):
        key = parsed.key_or_group
        if parsed.is_sweep_override():
            raise ValueError(f"Ambiguous value for argument '{parsed.input_line}'")
        try:
            if not re.fullmatch(r"[\w.]+", key):
                raise ConfigKeyError(key)
            OmegaConf.update(config, key, parsed.value(), merge=True)
        except (ConfigAttributeError, ConfigKeyError) as error:
            raise ConfigCompositionException(f"Could not override '{key}'.") from error
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return {str(key): value for key, value in plain.items()}


def _data_set(name: str, number: int, given: Any) -> dict[str, Any]:
    """One of ``data.sets``: the keys of ``{name: coco, root: FOLDER, ...}`` in ``conf/data/coco.yaml``."""
    key = f"data.sets[{number}]"
    if not isinstance(given, dict) or given.get("name") not in choices("data"):
        raise ConfigError(
            f"{key}={given}: give {{name: NAME, root: FOLDER}} with a name of {', '.join(choices('data'))}"
        )
    choice = _compose(name, (f"data={given['name']}",))
    base = choice.config["data"]
    check_complete({"data": base}, choice.chosen, choice.files)
    for own in given:
        if own not in ("name", "tasks") and own not in base:
            raise ConfigError(f"{key}.{own}: there is no such key{nearest(str(own), [str(known) for known in base])}")
    own = {k: v for k, v in given.items() if k not in ("name", "tasks")}
    plain: Any = OmegaConf.to_container(OmegaConf.merge(base, own))
    tasks = given.get("tasks", list(plain["readers"]))
    if not isinstance(tasks, list) or not tasks or set(tasks) - set(plain["readers"]):
        raise ConfigError(f"{key}.tasks={tasks}: give a list of {', '.join(plain['readers'])}")
    return {**plain, "readers": {task: plain["readers"][task] for task in tasks}}


def _check_tasks(overrides: Sequence[str]) -> None:
    """Two tasks for the same head would be mixed without a word."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key != "task" or not value.startswith("["):
            continue
        owner: dict[str, str] = {}
        for task in (name.strip() for name in value.strip("[]").split(",")):
            for head in read_conf("task", task).content["heads"]:
                if head in owner:
                    raise ConfigError(f"task={value}: {owner[head]} and {task} are both the head {head}; choose one")
                owner[head] = task


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the user asks for the keys."""
    return any(argument in ("-h", "--help") for argument in arguments)
