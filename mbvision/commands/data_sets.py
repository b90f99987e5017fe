"""Keys beside ``data.sets``, which every set has of its own, and keys in a set, which all sets share."""

from collections.abc import Sequence
from typing import Any

from mbvision.errors import ConfigError

SHARED = ("on_bad_item", "max_bad_fraction")
"""Keys of ``data`` that are for all sets together."""


def check_beside_sets(sets: Any, arguments: Sequence[str]) -> None:
    """Raise ``ConfigError`` for an empty list, and for keys of ``data`` that the sets leave without effect."""
    if not isinstance(sets, list) or not sets:
        raise ConfigError(f"data.sets={sets}: give a list of sets, as [{{name: coco, root: FOLDER}}], or leave it out")
    kept = tuple(f"data.{name}=" for name in ("sets", *SHARED))
    if idle := [one for one in arguments if one.startswith(("data=", "data.")) and not one.startswith(kept)]:
        key, _, value = idle[0].partition("=")
        own = f"name: {value}" if key == "data" else f"{key.removeprefix('data.')}: {value}"
        raise ConfigError(
            f"{idle[0]} has no effect beside data.sets=: write {{{own}, ...}} into a set, or leave it out"
        )
    if split := [one for one in arguments if one.startswith("split=")]:
        raise ConfigError(f"{split[0]} has no effect beside data.sets=: give each set its val_split")
    for number, one in enumerate(sets):
        for name in SHARED if isinstance(one, dict) else ():
            if name in one:
                raise ConfigError(
                    f"data.sets[{number}].{name}: it is of all sets together: say data.{name}={one[name]}"
                )
