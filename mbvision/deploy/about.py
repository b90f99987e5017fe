"""What an exported file says of itself: plain text under a few names, the same in every format.

``task`` and ``names`` are those of one head, or JSON by head where there are several. The key ``mbvision`` holds all
that is needed to use the file as a checkpoint; programs without mbvision never need it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision import __version__
from mbvision.checkpoint_checks import check_description
from mbvision.errors import CheckpointError

KEYS = ("task", "names", "imgsz", "stride", "score_threshold", "mbvision_version", "mbvision")
"""What ``metadata`` gives."""


def metadata(
    about: Mapping[str, Any], input_size: tuple[int, int], *, stride: int, outputs: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """The names and values that are written into a file; ``about`` is a checkpoint's description of its network."""
    config, names = about["config"], about["class_names"]
    heads = list(config["heads"])
    detection = config["tasks"].get("detection", {})
    private = {**about, "input_size": list(input_size), "outputs": [list(pair) for pair in outputs]}
    return {
        "task": heads[0] if len(heads) == 1 else json.dumps(heads),
        "names": json.dumps(names[heads[0]] if len(heads) == 1 else names),
        "imgsz": json.dumps(list(input_size)),
        "stride": str(stride),
        "score_threshold": str(detection.get("score_threshold", "")),
        "mbvision_version": __version__,
        "mbvision": json.dumps(private),
    }


def names_of(outputs: Sequence[tuple[str, str]]) -> list[str]:
    """The names of outputs, each given by (head, name); where two heads have the same, with the head's before it."""
    times = Counter(name for _, name in outputs)
    return [name if times[name] == 1 else f"{head}_{name}" for head, name in outputs]


def description(found: Mapping[str, str], path: Path) -> dict[str, Any]:
    """What ``metadata`` was made from. Raises CheckpointError for a file that another program wrote or changed."""
    try:
        about = json.loads(found["mbvision"])
        outputs = [(head, name) for head, name in about["outputs"]]
        height, width = about["input_size"]
        whole = all(isinstance(word, str) for pair in outputs for word in pair)
        whole &= type(height) is int and type(width) is int
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} does not say how to use it: tools/export.py did not write it, or another program changed it"
        ) from error
    check_description(path, about)
    if not whole or {head for head, _ in outputs} != set(about["config"]["heads"]):
        raise CheckpointError(f"{path}: its metadata do not fit together; export it again")
    return {**about, "outputs": outputs}
