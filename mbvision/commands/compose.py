"""From a command line to a checked configuration."""

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from mbvision.commands.ranges import check_values
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
"""Keys whose value is always taken as it is written, whatever signs a file's name holds."""

ANY_KIND = frozenset(
    {
        "backbone.reduced_tail",
        "input_size",
        "trainer.limit_train_batches",
        "trainer.limit_val_batches",
        "trainer.overfit_batches",
    }
)
"""Keys that take more than one kind of value; their constructors check them."""
LISTS = frozenset({"batches", "dynamic", "files", "formats"})
"""Keys of lists whose default need not be one."""
OPTIONAL = frozenset(
    {
        "early_stopping",
        "ema_decay",
        "threads",
        "trainer.gradient_clip_val",
        "trainer.max_epochs",
        "trainer.check_val_every_n_epoch",
    }
)
"""Keys with a default that null switches off."""
MOST_CHARACTERS, MOST_BRACKETS = 10_000, 100
"""Of one argument: the parser takes minutes for more, or all of Python's stack."""
SUITED = {
    "detection": "ssd",
    "segmentation": "segmentation",
    "classification": "classification",
    "attributes": "faces",
    "embedding": "faces",
}
"""The augmentation of each head; of several heads the first one here decides."""


def conf_folder() -> Path:
    """Where the configurations are: inside an installed package, else beside it."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def compose_config(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration ``conf/NAME.yaml`` with ``key=value`` arguments, as plain data with every reference resolved.

    Raises `ConfigError` naming the key, the value and the nearest right spelling or the choices.
    """
    overrides = [_quoted(argument) for argument in arguments]
    for argument in arguments:
        key, _, value = argument.partition("=")
        if (conf_folder() / key).is_dir() and not value.startswith("[") and value not in (known := _choices(key)):
            raise ConfigError(_no_such(key, value, known))
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
            overrides += _transform_for_heads(name, overrides)
            config = _composed(name, overrides)
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
            defaults = flatten(_composed_groups(conf_folder(), name, tuple(_group_overrides(overrides))))
            _check_types(defaults, overrides, plain)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: GROUP=null
        raise ConfigError(_explain(name, overrides, error)) from error
    assert isinstance(plain, dict)
    result = {str(key): value for key, value in plain.items()}
    if "data" in result and (sets := result["data"].get("sets")):
        result["data"]["sets"] = [_data_set(number, one) for number, one in enumerate(sets)]
    if missing := [key for key, value in result.items() if value == "???"]:
        raise ConfigError(f"{missing[0]}= is missing: say {missing[0]}=...; --help shows the keys")
    # A reference to another key is null where that may be.
    nullable = {key for key, value in defaults.items() if value is None or "${" in str(value)} | OPTIONAL
    check_values(flatten(result), nullable)
    return result


def _transform_for_heads(name: str, overrides: Sequence[str]) -> list[str]:
    """The augmentation that suits the heads, unless the arguments or the experiment name one."""
    config = _composed_groups(conf_folder(), name, tuple(_group_overrides(overrides)))
    if "heads" not in config or "_target_" in config.get("transform", {}).get("train", {}):
        return []
    _check_tasks(overrides)
    return [f"transform={next(transform for head, transform in SUITED.items() if head in config['heads'])}"]


def _composed(name: str, overrides: Sequence[str]) -> DictConfig:
    """What ``compose`` gives: a choice of files is composed once, and plain values are set afterwards as it does."""
    parser = OverridesParser.create()
    values = [
        parsed
        for parsed in map(parser.parse_override, overrides)
        if re.fullmatch(r"[\w.]+=.*", parsed.input_line or "", re.DOTALL)
        and not (conf_folder() / parsed.key_or_group).is_dir()
        and not parsed.is_sweep_override()
    ]
    set_later = {parsed.input_line for parsed in values}
    files = tuple(override for override in overrides if override not in set_later)
    config = OmegaConf.create(_composed_groups(conf_folder(), name, files))
    OmegaConf.set_struct(config, True)
    for parsed in values:
        try:
            OmegaConf.update(config, parsed.key_or_group, parsed.value(), merge=True)
        except (ConfigAttributeError, ConfigKeyError) as error:
            raise ConfigCompositionException(f"Could not override '{parsed.key_or_group}'.") from error
    return config


@lru_cache(maxsize=64)
def _composed_groups(folder: Path, name: str, groups: tuple[str, ...]) -> Any:
    """The defaults of a choice of groups, references unresolved; ``folder`` is the one that Hydra was set up with."""
    return OmegaConf.to_container(compose(config_name=name, overrides=list(groups)), resolve=False)


def _data_set(number: int, given: Any) -> dict[str, Any]:
    """One of ``data.sets``: the keys of ``{name: coco, root: FOLDER, ...}`` in ``conf/data/coco.yaml``."""
    key = f"data.sets[{number}]"
    if not isinstance(given, dict) or given.get("name") not in _choices("data"):
        raise ConfigError(
            f"{key}={given}: give {{name: NAME, root: FOLDER}} with a name of {', '.join(_choices('data'))}"
        )
    base = OmegaConf.load(conf_folder() / "data" / f"{given['name']}.yaml")
    for name in given:
        if name not in ("name", "tasks") and name not in base:
            raise ConfigError(f"{key}.{name}: there is no such key{nearest(name, [str(known) for known in base])}")
    own = {k: v for k, v in given.items() if k not in ("name", "tasks")}
    plain: Any = OmegaConf.to_container(OmegaConf.merge(base, own))
    tasks = given.get("tasks", list(plain["readers"]))
    if not isinstance(tasks, list) or not tasks or set(tasks) - set(plain["readers"]):
        raise ConfigError(f"{key}.tasks={tasks}: give a list of {', '.join(plain['readers'])}")
    return {**plain, "readers": {task: plain["readers"][task] for task in tasks}}


def _group_overrides(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if (conf_folder() / override.partition("=")[0]).is_dir()]


def _check_tasks(overrides: Sequence[str]) -> None:
    """Two tasks for the same head would be mixed without a word."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key != "task" or not value.startswith("["):
            continue
        owner: dict[str, str] = {}
        for task in (name.strip() for name in value.strip("[]").split(",")):
            heads: Any = OmegaConf.load(conf_folder() / "task" / f"{task}.yaml").heads
            for head in heads:
                if head in owner:
                    raise ConfigError(f"task={value}: {owner[head]} and {task} are both the head {head}; choose one")
                owner[head] = task


def _quoted(argument: str) -> str:
    """The argument in Hydra's grammar: a value that the grammar cannot read, or a path, is quoted for it."""
    key, equals, value = argument.partition("=")
    # Hydra's signs for adding and removing keys too: every key that there is has a default.
    if not equals or len(key) > 200 or not re.fullmatch(r"(?!hydra\b)\w[\w./-]*", key):
        raise ConfigError(f"{argument!r} is not key=value; --help shows the keys")
    if len(value) > MOST_CHARACTERS or sum(map(value.count, "[{(")) > MOST_BRACKETS:
        raise ConfigError(
            f"{key}={value[:60]}...: a value of {len(value)} characters is none of a key's; --help shows them"
        )
    if value and (key in PATH_KEYS or (key == "pretrained" and not value.startswith("torchvision:"))):
        return f"{key}={_literal(value)}" if value != "null" else argument
    try:
        OverridesParser.create().parse_override(argument)
    except (HydraException, ValueError):  # ValueError: thousands of digits
        return f"{key}={_literal(value)}"
    return argument


def _literal(value: str) -> str:
    escaped = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def _explain(name: str, overrides: Sequence[str], error: Exception) -> str:
    """One line that says which argument is wrong and what would be right."""
    text = str(error)
    group = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if group and "/" in group.group(1):
        folder, _, choice = group.group(1).rpartition("/")
        return _no_such(folder, choice, _choices(folder))
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if key:
        return f"{key.group(1)}: there is no such key{nearest(key.group(1), _known_keys(name))}; --help shows the keys"
    if text.startswith("Ambiguous value"):
        return f"{text.splitlines()[0]}: for one run each add --multirun, for a list put [ and ] around it"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0] if lines else f"the arguments {' '.join(overrides)} make no sense: {type(error).__name__}"


def _no_such(group: str, value: str, choices: Sequence[str]) -> str:
    return f"{group}={value}: there is no such {group}{nearest(value, choices)}; choose {', '.join(choices)}"


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def _check_types(defaults: Mapping[str, Any], overrides: Sequence[str], config: Any) -> None:
    """Refuse a value of another kind than the key's default: a number, true or false, a list of numbers."""
    given = flatten(config)
    for override in overrides:
        key = override.partition("=")[0]
        default, value = defaults.get(key), given.get(key)
        if isinstance(default, dict) and not isinstance(value, dict):
            raise ConfigError(f"{key}={value}: it has keys of its own, {', '.join(f'{key}.{own}' for own in default)}")
        if key in LISTS and value is not None and not isinstance(value, list):
            raise ConfigError(f"{key}={value}: give a list, such as [{value}]")
        if key in ANY_KIND or isinstance(default, str | dict | None) or (value is None and key in OPTIONAL):
            continue
        wanted = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}[type(default)]
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
            raise ConfigError(f"{key}={value}: give {wanted}, such as {default}")


def _known_keys(name: str) -> list[str]:
    with initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
        try:
            config = OmegaConf.to_container(compose(config_name=name), resolve=False)
        except ConfigCompositionException:
            return []
    return list(flatten(config)) if isinstance(config, dict) else []


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every key of nested data by its full path, branches as well as leaves."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found[f"{prefix}{key}"] = value
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{key}.")
    return found


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the user asks for the keys."""
    return any(argument in ("-h", "--help") for argument in arguments)


def expand_sweeps(arguments: Sequence[str]) -> list[list[str]]:
    """With ``--multirun`` every combination of the comma lists, else the arguments as they are."""
    plain = [argument for argument in arguments if argument not in ("--multirun", "-m")]
    if len(plain) == len(arguments):
        return [plain]
    choices = []
    for argument in plain:
        override = OverridesParser.create().parse_override(_quoted(argument))
        key = argument.partition("=")[0]
        if override.is_sweep_override():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([argument])
    return [list(run) for run in itertools.product(*choices)]
