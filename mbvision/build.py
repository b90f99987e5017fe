"""From configuration to objects: the only place where a name in a configuration becomes a call.

A node names a class or function by ``_target_`` and gives its arguments. Only the names in `ALLOWED` are ever called.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

from mbvision.data.base import Reader
from mbvision.data.faces import FaceReader
from mbvision.data.joint import JointReader, MixedReader
from mbvision.data.labels import LabelReader
from mbvision.data.slots import by_category_id, check_same_classes, with_class_order
from mbvision.errors import ConfigError, nearest
from mbvision.network import Network
from mbvision.tasks.base import Task

ALLOWED = frozenset(
    [f"mbvision.backbones.{family}.{family}" for family in ("mobilenet_v1", "mobilenet_v2")]
    + [
        f"mbvision.backbones.mobilenet_v3.mobilenet_v3_{size}{kind}"
        for size in ("large", "small")
        for kind in ("", "_minimalistic")
    ]
    + [
        "mbvision.heads.anchors.SSDAnchors",
        "mbvision.heads.classifier.Classifier",
        "mbvision.heads.deeplabv3.DeepLabV3",
        "mbvision.heads.embedding.EmbeddingHead",
        "mbvision.heads.lraspp.LRASPP",
        "mbvision.heads.ssdlite.SSDLite",
        "mbvision.losses.classification.ClassificationLoss",
        "mbvision.losses.margin.MarginLoss",
        "mbvision.losses.multibox.MultiBoxLoss",
        "mbvision.losses.segmentation.SegmentationLoss",
        "mbvision.tasks.attributes.Attributes",
        "mbvision.tasks.classification.Classification",
        "mbvision.tasks.detection.Detection",
        "mbvision.tasks.embedding.IdentityEmbedding",
        "mbvision.tasks.segmentation.SemanticSegmentation",
        "mbvision.data.celeba.celeba",
        "mbvision.data.cityscapes.cityscapes",
        "mbvision.data.coco.coco",
        "mbvision.data.coco_masks.coco_masks",
        "mbvision.data.crops.scenes_crops",
        "mbvision.data.identity_folder.identity_folder",
        "mbvision.data.image_folder.image_folder",
        "mbvision.data.imagenet.imagenet",
        "mbvision.data.masks_folder.masks_folder",
        "mbvision.data.portraits.portraits",
        "mbvision.data.scenes.scenes",
        "mbvision.data.scenes.scenes_masks",
        "mbvision.data.voc.voc",
        "mbvision.data.voc_masks.voc_masks",
        "mbvision.data.transforms.classification.classification_train",
        "mbvision.data.transforms.evaluation.ResizeTransform",
        "mbvision.data.transforms.faces.faces_train",
        "mbvision.data.transforms.mixing.Mixing",
        "mbvision.data.transforms.segmentation.segmentation_train",
        "mbvision.data.transforms.ssd.ssd_train",
        "mbvision.engine.optim.cosine",
        "mbvision.engine.optim.exponential",
        "mbvision.engine.optim.poly",
        "mbvision.engine.optim.step",
        "torch.optim.AdamW",
        "torch.optim.RMSprop",
        "torch.optim.SGD",
    ]
)
"""Everything that a configuration may call."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "backbone": ("mbvision.backbones.",),
    "heads": ("mbvision.heads.",),
    "tasks": ("mbvision.tasks.", "mbvision.losses."),
    "data": ("mbvision.data.",),
    "transform": ("mbvision.data.transforms.",),
    "optimizer": ("torch.optim.",),
    "schedule": ("mbvision.engine.optim.",),
}
"""Where in a configuration which of them may stand: the network of a stranger's checkpoint must not read files."""

TRAINING_ONLY = ("min_area",)
"""Keys of a reader that choose what is trained on: other splits are read whole."""

LARGEST_INPUT = 8192
"""The longer side of a network's input in pixels: four times that of Cityscapes, the largest of the papers'."""

NOT_THE_BACKBONES = ("weights", "dense_tap", "hidden", "hidden_activation")
"""Keys of ``backbone`` that heads and loaders read."""

Config = Mapping[str, Any]


def locate(node: Config, path: str) -> Callable[..., Any]:
    """The component that a node names, if it is allowed in that part of the configuration."""
    target = node.get("_target_")
    part = path.partition(".")[0]
    if not isinstance(target, str) or target not in ALLOWED or not target.startswith(PARTS.get(part, "")):
        choices = _choices(part)
        hint = nearest(str(target)[:200], choices) or f"; choose {', '.join(choices)}"
        raise ConfigError(f"{path}._target_={str(target)[:200]} is not among the components of mbvision{hint}")
    module, _, name = target.rpartition(".")
    component: Callable[..., Any] = getattr(import_module(module), name)
    return component


def _choices(part: str) -> list[str]:
    return sorted(target for target in ALLOWED if target.startswith(PARTS.get(part, "")))


def make(node: Config, path: str, **runtime: Any) -> Any:
    """Call what ``node["_target_"]`` names with the node's arguments and ``runtime``.

    Nested nodes are made first. ``path`` is the node's key in the configuration, for messages. Raises `ConfigError`
    for a name that is not allowed, an argument it does not take, and a value it refuses.
    """
    component = locate(node, path)
    arguments = {
        key: make(value, f"{path}.{key}") if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in node.items()
        if key != "_target_"
    }
    known = inspect.signature(component).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    if not open_ended and (unknown := [key for key in arguments if key not in known]):
        raise ConfigError(f"{path} has no key {unknown[0]!r}; it has {sorted(set(known) - set(runtime) - {'self'})}")
    try:
        return component(**arguments, **runtime)
    except ConfigError as error:
        if path in str(error):
            raise
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{path}: {error}") from error


def deferred(node: Config, path: str) -> Any:
    """A function that calls ``node``'s target with its own arguments and the node's: optimizers, schedules."""

    component = locate(node, path)
    arguments = {key: value for key, value in node.items() if key != "_target_"}

    def call(*positional: Any) -> Any:
        try:
            return component(*positional, **arguments)
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise ConfigError(f"{path}: {error}") from error

    return call


def build_network(config: Config, num_classes: Mapping[str, int]) -> Network:
    """The network of a configuration with keys ``backbone``, ``heads`` and ``normalize``.

    ``num_classes`` is by head name. Backbones return the union of the taps that the heads read.
    """
    heads = config["heads"]
    if not heads:
        raise ConfigError("task: no head is configured; try task=ssdlite")
    for key in ("mean", "std"):
        if len(config["normalize"][key]) != 3:
            raise ConfigError(f"normalize.{key}={config['normalize'][key]}: give three numbers, of red, green and blue")
    taps = sorted({tap for head in heads.values() for tap in head["taps"]})
    node = {key: value for key, value in config["backbone"].items() if key not in NOT_THE_BACKBONES}
    backbone = make(node, "backbone", taps=taps)
    return Network(
        backbone=backbone,
        heads={
            name: make(head, f"heads.{name}", features=backbone.features, num_classes=num_classes[name])
            for name, head in heads.items()
        },
        mean=config["normalize"]["mean"],
        std=config["normalize"]["std"],
    )


def build_tasks(config: Config) -> dict[str, Task[Any, Any]]:
    """The tasks of a configuration, by head name.

    Earlier checkpoints call a detector's ``max_candidates`` by another name, ``max_per_class``.
    """
    nodes = {
        name: {"max_candidates" if key == "max_per_class" else key: value for key, value in node.items()}
        for name, node in config["tasks"].items()
    }
    return {name: make(node, f"tasks.{name}") for name, node in nodes.items()}


def input_size(config: Config) -> tuple[int, int]:
    """(height, width) from ``input_size``, which is one number or two."""
    return _size(config["input_size"], "input_size")


def eval_size(config: Config) -> tuple[int, int]:
    """(height, width) of validation and prediction: ``eval_size``, else ``input_size``."""
    return input_size(config) if config.get("eval_size") is None else _size(config["eval_size"], "eval_size")


def _size(value: Any, key: str) -> tuple[int, int]:
    size = [value, value] if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(s) is int and s >= 32 for s in size):
        raise ConfigError(f"{key}={value}: give one whole number or [height,width], each at least 32")
    if max(size) > LARGEST_INPUT:
        raise ConfigError(f"{key}={value}: no side may be above {LARGEST_INPUT} pixels")
    return (size[0], size[1])


def build_reader(
    data: Config,
    split: str,
    *,
    tasks: Collection[str],
    class_slots: str = "contiguous",
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> Reader:
    """The reader of one split of a configuration's ``data``, with the labels that ``tasks`` need.

    ``split`` is the key that names it: train_split or val_split. With ``class_names`` (a network's, by task) the labels
    are in their order. Raises `ConfigError` where the data set has no labels for a task.
    """
    if class_slots not in ("contiguous", "category_ids"):
        raise ConfigError(f"class_slots={class_slots}: choose contiguous or category_ids")
    sets = data["sets"] or [data]
    readers = [_read_set(one, split, tasks, class_slots, class_names or {}) for one in sets]
    reader = readers[0] if len(readers) == 1 else MixedReader(readers)
    if missing := [task for task in tasks if task not in reader.class_names]:
        raise ConfigError(f"task: the data have no labels for {missing[0]}, only for {', '.join(reader.class_names)}")
    return reader


def split_name(data: Config, split: str, task: str) -> str:
    """The split that a task's labels are of."""
    name: str = next((one for one in data["sets"] or [] if task in one["readers"]), data)[split]
    return name


def split_source(data: Config, split: str, task: str) -> str:
    """The key and the value that name the split of a task's labels, for messages; ``split`` as for `build_reader`."""
    for number, one in enumerate(data["sets"] or []):
        if task in one["readers"]:
            return f"data.sets[{number}].{split}={one[split]}"
    return f"data.{split}={data[split]}"


def _read_set(
    data: Config, split: str, tasks: Collection[str], class_slots: str, class_names: Mapping[str, Sequence[str]]
) -> Reader:
    name = data[split]
    if not isinstance(name, str) or not name:
        raise ConfigError(f"data.{split}={name!r} names no split; set data.train_split= and data.val_split=")
    places = {"root": data["root"], "images": data["images"], "max_pixels": data["max_pixels"]}
    nodes = {task: node for task, node in data["readers"].items() if task in tasks}
    if not nodes:
        raise ConfigError(
            f"data: {data['root']} has labels for {', '.join(data['readers'])}, not for {', '.join(tasks)}"
        )
    if split != "train_split":
        nodes = {task: {k: v for k, v in node.items() if k not in TRAINING_ONLY} for task, node in nodes.items()}
    readers = {task: make(node, "data", split=name, **places) for task, node in nodes.items()}
    if faces := next((reader for reader in readers.values() if isinstance(reader, FaceReader)), None):
        return faces.for_tasks(nodes, class_names)  # one reader knows attributes and identities
    if boxes := readers.get("detection"):
        if class_slots == "category_ids":
            boxes = boxes.relabelled(by_category_id(boxes.annotations))
        if names := class_names.get("detection"):
            boxes = with_class_order(boxes, names)
        readers["detection"] = boxes
    if (masks := readers.get("segmentation")) and (names := class_names.get("segmentation")):
        check_same_classes(masks.class_names["segmentation"], names)
    if labels := readers.get("classification"):
        if len(readers) > 1:
            raise ConfigError(
                f"task: the set in {data['root']} cannot be read for {' and '.join(readers)} at once;"
                " give each a set of its own in data.sets"
            )
        assert isinstance(labels, LabelReader)
        return labels.with_class_order(names) if (names := class_names.get("classification")) else labels
    if len(readers) == 2:
        return JointReader(readers["detection"], readers["segmentation"])
    reader: Reader = next(iter(readers.values()))
    return reader
