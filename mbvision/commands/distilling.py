"""The parts of ``train`` for ``distill=``: the teacher, and pictures without labels to learn from."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mbvision import checkpoint
from mbvision.build import Config, input_size
from mbvision.data.base import Reader
from mbvision.data.unlabelled import WithUnlabelled
from mbvision.engine.teacher import Teacher
from mbvision.errors import ConfigError, TrainingError
from mbvision.network import Network
from mbvision.tasks.base import Task

logger = logging.getLogger(__name__)


def check_distillation(config: Config) -> None:
    """Refuse senseless values before data are touched."""
    if config["distill_pictures"] and not config["distill"]:
        raise ConfigError("distill_pictures= needs a teacher: say distill=PATH of a checkpoint")
    idle = [name for name, task in config["tasks"].items() if task.get("weight", 1) == 0]
    if not idle or (config["distill"] and config["distill_weight"]):
        return
    weights = " ".join(f"tasks.{name}.weight=0" for name in idle)
    if len(idle) == len(config["tasks"]):
        raise ConfigError(f"{weights}: nothing is learnt: say distill=PATH of a teacher, or a weight above 0")
    logger.warning("%s: without a teacher this learns nothing", weights)


def add_pictures(config: Config, reader: Reader) -> Reader:
    """The training reader with the pictures of ``distill_pictures``, which have no labels."""
    if not config["distill_pictures"]:
        return reader
    return WithUnlabelled(reader, Path(config["distill_pictures"]), max_pixels=config["data"]["max_pixels"])


def load_teacher(
    config: Config, network: Network, tasks: Mapping[str, Task[Any, Any]], class_names: Mapping[str, Sequence[str]]
) -> Teacher | None:
    """The network of ``distill``, None without one; the tasks learn its temperature.

    Raises `CheckpointError` for a file that is no checkpoint of ours, `ConfigError` where a head of it is missing or
    says something else than ``network``'s: other classes, anchors or sizes.
    """
    if not config["distill"]:
        return None
    path = Path(config["distill"])
    taught, _, about = checkpoint.rebuild(checkpoint.read(path), path)
    _check_classes(path, about["class_names"], class_names)
    teacher = Teacher(taught, weight=config["distill_weight"], temperature=config["distill_temperature"])
    for task in tasks.values():
        task.temperature = teacher.temperature
    size = input_size(config)
    _check_outputs(path, network, teacher, tasks, size)
    logger.info("learning from %s with weight %g", path, teacher.weight)
    return teacher


def _check_classes(path: Path, known: Mapping[str, Sequence[str]], wanted: Mapping[str, Sequence[str]]) -> None:
    for head, names in wanted.items():
        if head not in known:
            raise ConfigError(f"distill={path}: that network has no head {head}; it has {', '.join(known)}")
        if head != "embedding" and list(known[head]) != list(names):  # embeddings are compared, whoever trained them
            raise ConfigError(
                f"distill={path}: its classes of {head} are {list(known[head])}, the network's {list(names)}:"
                " a teacher must know the same, in order"
            )


def _check_outputs(
    path: Path, network: Network, teacher: Teacher, tasks: Mapping[str, Task[Any, Any]], size: tuple[int, int]
) -> None:
    """Try both on one empty picture: what does not fit is told now, not in the first step."""
    training = network.training
    device = next(network.parameters()).device
    images = torch.zeros(1, 3, *size, device=device)
    with torch.no_grad():
        outputs, goals = network.eval()(images), teacher(images)
    network.train(training)
    for name, task in tasks.items():
        try:
            task.distillation(outputs[name], goals[name], size)
        except TrainingError as error:
            raise ConfigError(f"distill={path}: {error}") from error
