"""The state dict within a file of weights, whichever trainer wrote it, under the names that the network gave."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mbvision.errors import CheckpointError

STATE_KEYS = ("state_dict", "model", "model_state_dict", "network", "net", "weights")
"""Where trainers put the weights: Lightning and timm, torchvision, PyTorch's tutorials, and others."""

_WRAPPER = re.compile(r"(module|_orig_mod|model|net|network|encoder|backbone)\.")
"""What DataParallel, torch.compile and modules around a network put before its names."""

_CLASSIFIERS = {"backbone.features.0.0.weight", "backbone.conv_stem.weight"}
"""Stems of torchvision's and timm's classifiers in a wrapper; in other networks ``backbone.`` is a part's own name."""

_AVERAGING = "n_averaged"
"""The counter of torch.optim.swa_utils.AveragedModel."""

logger = logging.getLogger(__name__)


def find_state(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the weights of a plain state dict, or those that a training checkpoint holds beside other things.

    A prefix that all names share because the network was wrapped is taken off. What is taken off, and which other
    weights the file holds, is logged. Raises `CheckpointError` where there are no tensors.
    """
    key = next((key for key in STATE_KEYS if key in content and not isinstance(content[key], Tensor)), None)
    state = content if key is None else content[key]
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds a {type(state).__name__} where the weights should be; save a state dict")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    others = [str(name) for name, value in content.items() if name != key and _holds_tensors(value)]
    if not tensors:
        where = f"; it has some under {', '.join(others)}: save that state dict alone" if others else ""
        raise CheckpointError(f"{path} holds no tensors: it is not a file of weights{where}")
    if key is not None and others:
        logger.info(
            "%s: its weights under %s are read, not those under %s (save these alone to use them)",
            path,
            key,
            ", ".join(others),
        )
    return without_wrappers(tensors, path)


def without_wrappers(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take off the prefixes that every name has, and the counter of averaged weights; says so in the log."""
    named = {name: tensor for name, tensor in tensors.items() if name != _AVERAGING}
    if len(named) < len(tensors):
        logger.info("%s holds averaged weights (%s)", path, _AVERAGING)
    removed = ""
    while named and (prefix := _WRAPPER.match(next(iter(named)))):
        whole = prefix[0] != "backbone." or _CLASSIFIERS & named.keys()
        if not whole or not all(name.startswith(prefix[0]) for name in named):
            break
        named = {name[len(prefix[0]) :]: tensor for name, tensor in named.items()}
        removed += prefix[0]
    if removed:
        logger.info("%s: %r is taken off its names", path, removed)
    return named


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) for one in value.values())


def check_values(tensors: Mapping[str, Tensor], source: object) -> None:
    """Raise `CheckpointError` for the first tensor with values that are not finite, or variances below zero."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{source}: {key} holds values that are not finite")
        if key.endswith("running_var") and (tensor < 0).any():
            raise CheckpointError(f"{source}: {key} holds variances below 0, which give NaN: the file is damaged")
