"""The arguments of a command line in Hydra's grammar, and what is said of one that makes no sense."""

import itertools
import logging
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from mbvision.commands.conf_files import ConfFile, choices
from mbvision.commands.kinds import PATH_KEYS, TEXT_LISTS, flatten
from mbvision.errors import ConfigError, nearest

MOST_CHARACTERS, MOST_BRACKETS = 10_000, 100
"""Of one argument: the parser takes minutes for more, or all of Python's stack."""

_ENTRY = re.compile(r"\s*('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,\[\]{}'\"]*)\s*(?:,|$)")
"""An entry of a list of names, quoted or not, and the comma behind it."""

logger = logging.getLogger(__name__)


def warn_of_repeats(arguments: Sequence[str]) -> None:
    """Say of each key that is given more than once which value counts: the last, as in any command."""
    pairs = [argument.partition("=")[::2] for argument in arguments if "=" in argument]
    for key in dict.fromkeys(key for key, _ in pairs):
        values = [value for other, value in pairs if other == key]
        if len(set(values)) > 1:
            before = ", ".join(f"{key}={value}" for value in values[:-1])
            logger.warning("%s is given %d times: %s=%s counts, not %s", key, len(values), key, values[-1], before)


def quoted(argument: str) -> str:
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
    if TEXT_LISTS.fullmatch(key) and (names := _names(value)) is not None:
        return f"{key}=[{','.join(_literal(name) for name in names)}]"
    try:
        OverridesParser.create().parse_override(argument)
    except (HydraException, ValueError):  # ValueError: thousands of digits
        return f"{key}={_literal(value)}"
    return argument


def _names(value: str) -> list[str] | None:
    """The entries of ``[a,'b c',no]`` as they are written; None for anything else."""
    if not (value.startswith("[") and value.endswith("]")):
        return None
    names, at, text = [], 0, value[1:-1]
    while at < len(text):
        entry = _ENTRY.match(text, at)
        if entry is None or entry.end() == at:
            return None
        word, at = entry[1].strip(), entry.end()
        names.append(re.sub(r"\\(.)", r"\1", word[1:-1]) if word[:1] in ("'", '"') else word)
    return names


def _literal(value: str) -> str:
    escaped = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def explain(overrides: Sequence[str], error: Exception, known: Sequence[str], files: Sequence[ConfFile]) -> str:
    """One line that says which argument, or which key of a file, is wrong and what would be right."""
    text = str(error)
    group = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if group and "/" in group.group(1):
        folder, _, choice = group.group(1).rpartition("/")
        return no_such(folder, choice, choices(folder))
    if key := re.search(r"full_key: (\S+)", text):
        return _reference(key[1], text, known, files)
    if key := re.search(r"Could not override '([^']+)'", text):
        return f"{key[1]}: there is no such key{nearest(key[1], known)}; --help shows the keys"
    if text.startswith("Ambiguous value"):
        return f"{text.splitlines()[0]}: for one run each add --multirun, for a list put [ and ] around it"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0] if lines else f"the arguments {' '.join(overrides)} make no sense: {type(error).__name__}"


def _reference(key: str, text: str, known: Sequence[str], files: Sequence[ConfFile]) -> str:
    """What is said of a value ``${...}`` that cannot be found."""
    where = next(
        (f"{file.path}: {key}={own[key]}" for file in files if "${" in str((own := flatten(file.content)).get(key))),
        key,
    )
    if missing := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"{where}: there is no key {missing[1]}{nearest(missing[1], known)}"
    return f"{where}: {text.splitlines()[0]}"


def no_such(group: str, value: str, known: Sequence[str]) -> str:
    """What is said of a name that a group of ``conf/`` does not have."""
    return f"{group}={value}: there is no such {group}{nearest(value, known)}; choose {', '.join(known)}"


def expand_sweeps(arguments: Sequence[str]) -> list[list[str]]:
    """With ``--multirun`` every combination of the comma lists, else the arguments as they are."""
    plain = [argument for argument in arguments if argument not in ("--multirun", "-m")]
    if len(plain) == len(arguments):
        return [plain]
    runs = []
    for argument in plain:
        override = OverridesParser.create().parse_override(quoted(argument))
        key = argument.partition("=")[0]
        if override.is_sweep_override():
            runs.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            runs.append([argument])
    return [list(run) for run in itertools.product(*runs)]
