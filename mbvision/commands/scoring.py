"""The part of ``evaluate`` that runs a network over a data set."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from torch import nn

from mbvision.build import build_reader, eval_size, input_size, make, split_name
from mbvision.commands.label_checks import warn_of_labels
from mbvision.data.sampling import DrawDataset
from mbvision.data.transforms.evaluation import CROP_FRACTION, NativeTransform
from mbvision.deploy.exported import ExportedNetwork, with_score_threshold
from mbvision.draw import plot_precision_recall, save_image
from mbvision.draw_faces import plot_roc
from mbvision.draw_masks import plot_confusion
from mbvision.engine.data_module import VisionData
from mbvision.engine.module import VisionModule
from mbvision.engine.out_of_memory import told_when_memory_runs_out
from mbvision.engine.pictures import draw_samples
from mbvision.engine.signals import leave_signals_alone
from mbvision.errors import ConfigError
from mbvision.inference.augmented import augmented
from mbvision.inference.predictor import choose_device, open_on
from mbvision.metrics.box_evaluator import BoxEvaluator
from mbvision.metrics.mask_results import mask_writer
from mbvision.metrics.mean_iou import MeanIoU
from mbvision.metrics.report import merged
from mbvision.metrics.results import write_coco_results, write_comp4
from mbvision.metrics.top_accuracy import TopAccuracy
from mbvision.metrics.verification import Verification
from mbvision.structures import BoxAnnotations
from mbvision.tasks.base import Task

logger = logging.getLogger(__name__)
RESIZE = {"_target_": "mbvision.data.transforms.evaluation.ResizeTransform"}


def score_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Run the checkpoint over the split, write predictions and pictures, and return the metrics."""
    path = Path(config["checkpoint"])
    folder = Path(config["output_dir"]) if config["output_dir"] else path.parent / "evaluation"
    (network, tasks, about), device = open_on(path, config["device"], runtime=config["runtime"])
    config = {**config, "device": device}
    if isinstance(network, ExportedNetwork):
        check_file_can(network, config, path)
    metrics = score_network(network, tasks, about, config, folder)
    print(f"predictions, plots and pictures in {folder}\n")
    return metrics


def check_file_can(network: ExportedNetwork, config: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for what an exported file cannot do that a checkpoint can."""
    if config["window"] or config["flip"] or list(config["scales"]) != [1.0]:
        raise ConfigError(f"checkpoint={path}: scales=, flip= and window= take the checkpoint and runtime=torch")
    _, height, width = network.runtime.shape
    if config["input_size"] and any(
        own not in (None, side) for own, side in zip((height, width), input_size(config), strict=True)
    ):
        raise ConfigError(
            f"input_size={config['input_size']}: {path} was exported for {height}x{width} alone; leave it out, or"
            " export with dynamic=[batch,height,width]"
        )


def score_network(
    network: nn.Module,
    tasks: Mapping[str, Task[Any, Any]],
    about: dict[str, Any],
    config: Mapping[str, Any],
    folder: Path,
    *,
    limit: int | None = None,
) -> dict[str, Any]:
    """The same with what a checkpoint or an exported file holds; outputs go into the folder.

    With ``limit`` the batches that hold the first so many pictures are scored.
    """
    settings = about["config"]
    size = input_size(config) if config["input_size"] else eval_size(settings)
    if config["score_threshold"] is not None and "detection" in tasks:
        tasks = with_score_threshold(tasks, settings, config["score_threshold"])
    names = tasks_to_score(config, about)
    split = config["split"] or config["data"]["val_split"]
    data = {**config["data"], "val_split": split}
    reader = build_reader(data, "val_split", tasks=names, class_names=about["class_names"])
    warn_of_labels(data, reader, names)
    boxes = reader.truth.get("detection")
    if isinstance(boxes, BoxAnnotations) and not len(boxes.labels):
        text = "%s: no annotated box to score by, so AP stays -1; the predictions of all %d images are in %s"
        logger.warning(text, split, len(boxes), folder / "predictions.json")
    loaders = VisionData(
        train_reader=None,
        val_reader=reader,
        train_transform=None,
        val_transform=NativeTransform()
        if config["window"]
        else make({**RESIZE, **evaluation_fit(settings)}, "transform.evaluate", size=size),
        batch_size=1 if config["window"] else config["loader"]["batch_size"],
        workers=config["loader"]["workers"],
    )
    module = VisionModule(
        network=augmented(network, config["scales"], flip=config["flip"], window=size if config["window"] else None),
        tasks={name: tasks[name] for name in names},
        annotations=reader.truth,
        network_config=about,
        pictures=config["samples"],
    )
    if "detection" in names:
        module.evaluators["detection"] = BoxEvaluator(
            annotations=reader.truth["detection"], style=config["style"], backend=config["backend"], iou=config["iou"]
        )
    if "segmentation" in names:
        masks = reader.truth["segmentation"]
        module.evaluators["segmentation"] = MeanIoU(annotations=masks, sink=mask_writer(folder / "masks", masks.scheme))
    device = choose_device(config["device"])
    trainer = leave_signals_alone(
        L.Trainer(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=1.0 if limit is None else -(-limit // loaders.batch_size),
        )
    )
    with told_when_memory_runs_out(batch_size=loaders.batch_size, size=size), loaders.worker_errors():
        trainer.validate(module, loaders, verbose=False)
    if trainer.is_global_zero:
        write_outputs(folder, split_name(data, "val_split", "detection"), module, loaders.val_set)
    return merged(module.metrics, len(reader))


def evaluation_fit(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How a picture fills the input of a checkpoint, of an earlier version too."""
    return {"fit": settings.get("fit", "stretch"), "crop_fraction": settings.get("crop_fraction", CROP_FRACTION)}


def tasks_to_score(config: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Those of the network's tasks for which the data set has labels; several scales and windows score masks alone."""
    labelled = {task for one in config["data"]["sets"] or [config["data"]] for task in one["readers"]}
    wanted = config["tasks"] or list(about["config"]["heads"])
    if not isinstance(wanted, list) or set(wanted) - set(about["config"]["heads"]):
        raise ConfigError(f"tasks={wanted}: give a list of the network's heads, {list(about['config']['heads'])}")
    names = [name for name in wanted if name in labelled]
    if not names:
        raise ConfigError(
            f"data: the set has labels for {', '.join(sorted(labelled))}, the network is for"
            f" {', '.join(about['config']['heads'])}"
        )
    if config["window"] or config["flip"] or list(config["scales"]) != [1.0]:
        names = [name for name in names if name == "segmentation"]
        if not names:
            raise ConfigError("scales=, flip= and window= are for segmentation alone")
    return names


def write_outputs(folder: Path, split: str, module: VisionModule, dataset: DrawDataset) -> None:
    """Results for the evaluation servers, plots, and sample pictures. Masks were written on the way."""
    boxes, masks = module.evaluators.get("detection"), module.evaluators.get("segmentation")
    if isinstance(boxes, BoxEvaluator):
        results, annotations = boxes.results, boxes.annotations
        write_coco_results(folder / "predictions.json", results, annotations)
        if boxes.style == "voc":
            write_comp4(folder / "comp4", split.replace("/", "_"), results, annotations)
        else:
            plot_precision_recall(boxes.curves, folder / "precision_recall.png")
    if isinstance(classes := module.evaluators.get("classification"), TopAccuracy):
        path = folder / ("confusion.png" if masks is None else "confusion_classification.png")
        plot_confusion(classes.matrix, classes.annotations.class_names, path)
    if isinstance(masks, MeanIoU):
        plot_confusion(masks.matrix, masks.annotations.scheme.class_names, folder / "confusion.png")
    if isinstance(pairs := module.evaluators.get("embedding"), Verification):
        plot_roc(pairs.curve.false_accepts, pairs.curve.true_accepts, folder / "roc.png")
    for name, picture in draw_samples(module, dataset).items():
        save_image(folder / "samples" / f"{name}.png", picture)
