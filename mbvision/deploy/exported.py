"""An exported file in the place of a network and its tasks: predicted with and scored in the same way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision import checkpoint
from mbvision.boxes import select_detections
from mbvision.build import build_tasks
from mbvision.deploy.about import description, names_of
from mbvision.deploy.formats import RUNTIMES, open_runtime
from mbvision.deploy.runtime import Images, Runtime
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.structures import (
    AttributeScores,
    ClassScores,
    Detections,
    Embedding,
    InputLabels,
    Segmentation,
    Target,
)
from mbvision.tasks.base import Task
from mbvision.tasks.detection import Detection

if TYPE_CHECKING:
    from torchmetrics import Metric

Outputs = Mapping[str, Tensor]


class Eager(Runtime):
    """The network itself in the place of its file, to compare with."""

    shape = (None, None, None)

    def __init__(self, network: DeployedNetwork, metadata: Mapping[str, str]) -> None:
        self.network, self.metadata = network, metadata

    @torch.inference_mode()
    def run(self, images: Images) -> dict[str, np.ndarray]:
        """The outputs by name."""
        found = self.network(torch.from_numpy(images))
        return {name: value.numpy() for name, value in zip(self.network.output_names, found, strict=True)}


class ExportedNetwork(nn.Module):
    """Calls a runtime; gives the outputs by head and name."""

    def __init__(self, runtime: Runtime, outputs: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.runtime = runtime
        self.outputs = dict(zip(names_of(outputs), outputs, strict=True))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, dict[str, Tensor]]:
        """All images, in steps of as many as the file was made for; the last step is filled up."""
        arrays = np.ascontiguousarray(images.cpu().numpy())
        step = self.runtime.shape[0] or len(arrays)
        missing = -len(arrays) % step
        whole = np.concatenate([arrays, np.repeat(arrays[-1:], missing, axis=0)]) if missing else arrays
        runs = [self.runtime.run(whole[start : start + step]) for start in range(0, len(whole), step)]
        found: dict[str, dict[str, Tensor]] = {}
        for key, (head, name) in self.outputs.items():
            values = np.concatenate([run[key] for run in runs])[: len(arrays)]
            found.setdefault(head, {})[name] = torch.from_numpy(values)
        return found


class ExportedTask(Task[Outputs, Any]):
    """A task whose outputs come from a file; it predicts and is scored, but learns nothing."""

    def __init__(self, head: str, task: Task[Any, Any]) -> None:
        self.head, self.task = head, task
        self.weight, self.metric = task.weight, task.metric

    def loss(self, outputs: Outputs, targets: Sequence[Target], input_size: tuple[int, int]) -> dict[str, Tensor]:
        """Not supported: what was exported does not learn any more."""
        raise NotImplementedError("an exported file cannot be trained; train its checkpoint")

    def distillation(
        self, outputs: Outputs, teacher_outputs: Outputs, input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Not supported either."""
        raise NotImplementedError("an exported file cannot be trained; train its checkpoint")

    @torch.no_grad()
    def predict(self, outputs: Outputs, input_size: tuple[int, int]) -> list[Any]:
        """One prediction for each image, as the task in the checkpoint makes them."""
        if isinstance(self.task, Detection):
            return (_selected if "count" in outputs else _suppressed)(outputs, self.task)
        if "labels" in outputs:
            return [InputLabels(labels=labels.numpy()) for labels in outputs["labels"]]
        if "logits" in outputs:
            return [Segmentation(logits=logits.float(), input_size=input_size) for logits in outputs["logits"]]
        if "embedding" in outputs:
            return [Embedding(vector=vector) for vector in outputs["embedding"]]
        kind = ClassScores if self.head == "classification" else AttributeScores
        return [kind(scores=scores) for scores in outputs["scores"]]

    def evaluator(self, annotations: Any) -> "Metric":
        """The task's own."""
        return self.task.evaluator(annotations)


def _suppressed(outputs: Outputs, task: Detection) -> list[Detections]:
    found = []
    for boxes, scores in zip(outputs["boxes"], outputs["scores"], strict=True):
        kept, values, labels = select_detections(
            scores,
            boxes.__getitem__,
            score_threshold=task.score_threshold,
            nms_threshold=task.nms_threshold,
            max_candidates=task.max_candidates,
            max_detections_per_class=task.max_detections_per_class,
            max_detections=task.max_detections,
        )
        found.append(Detections(boxes=kept, scores=values, labels=labels))
    return found


def _selected(outputs: Outputs, task: Detection) -> list[Detections]:
    found = []
    for boxes, scores, labels in zip(outputs["boxes"], outputs["scores"], outputs["labels"], strict=True):
        count = int((scores > task.score_threshold).sum())  # the best come first
        found.append(Detections(boxes=boxes[:count], scores=scores[:count], labels=labels[:count].long()))
    return found


def exported(runtime: Runtime, path: Path) -> tuple[ExportedNetwork, dict[str, Task[Any, Any]], dict[str, Any]]:
    """A file's network, tasks and description, as `mbvision.checkpoint.rebuild` gives a checkpoint's."""
    about = description(runtime.metadata, path)
    about["config"] |= {"input_size": about["input_size"], "eval_size": None}
    tasks = {name: ExportedTask(name, task) for name, task in build_tasks(about["config"]).items()}
    return ExportedNetwork(runtime, about["outputs"]), dict(tasks), about


def with_score_threshold(
    tasks: Mapping[str, Task[Any, Any]], config: dict[str, Any], value: float
) -> dict[str, Task[Any, Any]]:
    """The tasks of a configuration at another threshold, for a network or a file as they were."""
    config["tasks"]["detection"]["score_threshold"] = value
    fresh = build_tasks(config)
    return {
        name: ExportedTask(name, fresh[name]) if isinstance(task, ExportedTask) else fresh[name]
        for name, task in tasks.items()
    }


def open_model(path: Path) -> tuple[nn.Module, dict[str, Task[Any, Any]], dict[str, Any]]:
    """A network, its tasks and its description, from a checkpoint or from an exported file.

    Raises CheckpointError where the file cannot be used, and ConfigError where its runtime is not installed.
    """
    if path.suffix.lower() in RUNTIMES:
        return exported(open_runtime(path), path)
    return checkpoint.rebuild(checkpoint.read(path), path)
