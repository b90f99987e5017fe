"""The part of ``evaluate`` that runs a network over a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from mbvision import checkpoint
from mbvision.build import build_reader, build_tasks, input_size, make
from mbvision.data.slots import with_class_order
from mbvision.draw import plot_precision_recall, save_image
from mbvision.engine.data_module import VisionData
from mbvision.engine.module import VisionModule
from mbvision.engine.pictures import draw_detections
from mbvision.inference.predictor import choose_device
from mbvision.metrics.box_evaluator import BoxEvaluator
from mbvision.metrics.coco_ap import coco_ap
from mbvision.metrics.results import write_coco_results, write_comp4

RESIZE = {"_target_": "mbvision.data.transforms.ResizeTransform"}


def score_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Run the checkpoint over the split, write predictions and pictures, and return the metrics."""
    path = Path(config["checkpoint"])
    network, tasks, about = checkpoint.rebuild(checkpoint.read(path), path)
    size = input_size(about["config"])
    split = config["split"] or config["data"]["val_split"]
    reader = build_reader(config, split)
    reader = with_class_order(reader, about["class_names"]["detection"])
    if config["score_threshold"] is not None:
        about["config"]["tasks"]["detection"]["score_threshold"] = config["score_threshold"]
        tasks = build_tasks(about["config"])
    data = VisionData(
        train_reader=None,
        val_reader=reader,
        train_transform=None,
        val_transform=make(RESIZE, "transform.evaluate", size=size),
        batch_size=config["loader"]["batch_size"],
        workers=config["loader"]["workers"],
    )
    module = VisionModule(
        network=network,
        tasks=tasks,
        annotations={"detection": reader.annotations},
        network_config=about,
        pictures=config["samples"],
    )
    evaluator = BoxEvaluator(
        annotations=reader.annotations, style=config["style"], backend=config["backend"], iou=config["iou"]
    )
    module.evaluators = {"detection": evaluator}
    device = choose_device(config["device"])
    trainer = L.Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.validate(module, data, verbose=False)
    folder = Path(config["output_dir"]) if config["output_dir"] else path.parent / "evaluation"
    if trainer.is_global_zero:
        write_outputs(folder, split, module, evaluator, reader)
    return module.metrics["detection"]


def write_outputs(folder: Path, split: str, module: VisionModule, evaluator: BoxEvaluator, reader: Any) -> None:
    """Results for the evaluation servers, the precision-recall plot, and sample pictures."""
    results, annotations = evaluator.results, evaluator.annotations
    write_coco_results(folder / "predictions.json", results, annotations)
    if evaluator.style == "voc":
        write_comp4(folder / "comp4", split.replace("/", "_"), results, annotations)
    else:
        plot_precision_recall(
            coco_ap(annotations, results, backend=evaluator.backend).curves, folder / "precision_recall.png"
        )
    for number, (index, found, target) in enumerate(module.kept["detection"]):
        save_image(folder / "samples" / f"{number}.png", draw_detections(reader, index, found, target))
    print(f"predictions, plots and pictures in {folder}\n")
