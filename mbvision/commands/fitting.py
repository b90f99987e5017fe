"""The parts of ``train`` that need Lightning: module, data, trainer, and the score at the end."""

import logging
import shlex
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
import torch.distributed as dist
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from mbvision import checkpoint, stopping
from mbvision.build import Config, build_reader, build_tasks, deferred, eval_size, make, split_source
from mbvision.commands.distilling import add_pictures, load_teacher
from mbvision.commands.total_batch import batches_a_step
from mbvision.commands.typed import as_typed
from mbvision.data.base import Reader
from mbvision.draw_faces import plot_roc
from mbvision.engine.callbacks import AtomicCheckpointIO, RunCheckpoints
from mbvision.engine.data_module import VisionData
from mbvision.engine.early_stopping import EarlyStopping
from mbvision.engine.module import VisionModule
from mbvision.engine.norm_statistics import NormStatistics
from mbvision.engine.out_of_memory import told_when_memory_runs_out
from mbvision.engine.pictures import Pictures
from mbvision.engine.rounding import Rounding
from mbvision.engine.run_log import RunLog
from mbvision.engine.signals import ending_together, leave_signals_alone
from mbvision.engine.weight_average import WarmAverage
from mbvision.errors import ConfigError, DataError, TrainingError
from mbvision.metrics.box_evaluator import BoxEvaluator
from mbvision.metrics.report import format_table, merged, write_metrics
from mbvision.metrics.results import write_coco_results
from mbvision.metrics.verification import Verification
from mbvision.network import Network
from mbvision.structures import BoxAnnotations, MaskAnnotations
from mbvision.weights import load_pretrained, load_trunk_only

logger = logging.getLogger(__name__)


def load_start(network: Network, config: Config, class_names: Mapping[str, Sequence[str]]) -> None:
    """Weights to start from, and what of the network is to stay as it is.

    A run that is resumed gets all weights from its checkpoint: the files that it once started from may be gone.
    """
    if not config["resume"]:
        _load_weights(network, config, class_names)
    elif source := config["pretrained"] or config["backbone"].get("weights"):
        logger.info("%s is not read: resume=%s has all weights", source, config["resume"])
    if config["freeze"] == "backbone":
        network.freeze_backbone()


def _load_weights(network: Network, config: Config, class_names: Mapping[str, Sequence[str]]) -> None:
    architecture = config["backbone"]["_target_"].rpartition(".")[2]
    published: bool = config["published_weights"]
    if trunk := config["backbone"].get("weights"):
        load_trunk_only(network, trunk, architecture=architecture, published_weights=published)
    if source := config["pretrained"]:
        load_pretrained(
            network,
            source,
            architecture=architecture,
            class_names=class_names,
            reset_head=config["reset_head"],
            published_weights=published,
        )


def check_boxes(config: Config, train_reader: Reader, val_reader: Reader) -> None:
    """Refuse to train a detector on labels without a box; warn where there is none to score it by."""
    boxes, scored = (reader.truth.get("detection") for reader in (train_reader, val_reader))
    learns = "detection" in config["heads"] and config["tasks"]["detection"].get("weight", 1) != 0
    if learns and isinstance(boxes, BoxAnnotations) and not boxes.usable.any():
        raise DataError(
            f"{split_source(config['data'], 'train_split', 'detection')}: no box to train on in {len(boxes)} pictures"
            f" ({len(boxes.labels)} boxes that are crowds, difficult or empty): check data.root= and the annotations"
        )
    if isinstance(scored, BoxAnnotations) and scored is not boxes and not len(scored.labels):
        source = split_source(config["data"], "val_split", "detection")
        logger.warning("%s: no box to score by, so AP stays -1", source)


def build_readers(config: Config) -> tuple[Reader, Reader]:
    """The readers of the training and the validation split, with the same classes in the same order.

    Where a batch is to be learnt by heart, both are the training split.
    """
    labels = {"tasks": tuple(config["heads"]), "class_slots": config.get("class_slots", "contiguous")}
    train = add_pictures(config, build_reader(config["data"], "train_split", **labels))
    if config["trainer"]["overfit_batches"]:
        return train, train
    return train, build_reader(config["data"], "val_split", **labels, class_names=train.class_names)


def build_data(config: Config, train_reader: Reader, val_reader: Reader, size: tuple[int, int]) -> VisionData:
    """Both readers with their transforms; a batch to overfit is trained on as it is scored, without augmentation."""
    data, loader, transform = config["data"], config["loader"], config["transform"]
    names = train_reader.class_names.get("classification", ())
    overfit = config["trainer"]["overfit_batches"] > 0
    mix = transform.get("mix") if "classification" in config["heads"] and not overfit else None
    evaluated = partial(make, transform["evaluate"], "transform.evaluate", size=eval_size(config))
    return VisionData(
        train_reader=train_reader,
        val_reader=val_reader,
        train_transform=evaluated(fit_mask=True) if overfit else make(transform["train"], "transform.train", size=size),
        val_transform=evaluated(),
        batch_size=loader["batch_size"],
        workers=loader["workers"],
        seed=config["seed"],
        on_bad_item=data["on_bad_item"],
        max_bad_fraction=data["max_bad_fraction"],
        repeat_epoch=overfit,
        train_mix=make(mix, "transform.mix", num_classes=len(names)) if mix else None,
    )


def build_module(config: Config, network: Network, reader: Reader) -> VisionModule:
    """The network with its tasks; they are scored against the validation reader's annotations."""
    names = {name: reader.class_names[name] for name in config["heads"]}
    palettes = {name: mask.scheme.palette for name, mask in reader.truth.items() if isinstance(mask, MaskAnnotations)}
    about = checkpoint.description(config, names, palettes)
    tasks = build_tasks(config)
    return VisionModule(
        network=network,
        tasks=tasks,
        teacher=load_teacher(config, network, tasks, names),
        optimizer=deferred(config["optimizer"], "optimizer"),
        schedule=deferred(config["schedule"], "schedule") if config["schedule"] else None,
        annotations=reader.truth,
        network_config={**about, "optimizer": config["optimizer"]["_target_"]},
        max_nan_steps=config["max_nan_steps"],
        rounding=Rounding(network) if config["quantize"] else None,
    )


def fit(config: Config, module: VisionModule, data: VisionData, folder: Path, resume: Path | None) -> L.Trainer:
    """Train to the end. Raises `TrainingError` where memory runs out or a worker dies; the checkpoints stay.

    Raises `Stopped` after a signal that asks to stop, when the state of the last step is saved.
    """
    checkpoints = RunCheckpoints(folder=folder, every_n_steps=config["checkpoint_every_n_steps"])
    callbacks: list[Callback] = [
        checkpoints,
        LearningRateMonitor("step"),
        Pictures(folder=folder / "samples", data=data.sets),
    ]
    if config["trainer"]["enable_progress_bar"]:
        callbacks.append(TQDMProgressBar())
    average = None
    if config["ema_decay"] is not None:
        average = WarmAverage(decay=config["ema_decay"], every_n_steps=config["ema_every_n_steps"])
        callbacks.append(average)
    callbacks.append(NormStatistics(data=data, average=average))
    if config["early_stopping"] is not None:
        callbacks.append(EarlyStopping(patience=config["early_stopping"]))
    loggers: list[Logger] = [RunLog(folder=folder, resume=resume is not None)]
    if config["tensorboard"]:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    trainer = build_trainer(config, folder, callbacks=callbacks, logger=loggers)
    if config["freeze"]:
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")  # they are meant to be
    goes_on = f"resume={checkpoints.last_path} goes on"
    told = told_when_memory_runs_out(
        batch_size=config["loader"]["batch_size"], size=config["input_size"], then=f"; {goes_on}"
    )
    try:
        with ending_together(trainer), told, data.worker_errors():
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise TrainingError(f"another process of this training ended: its own message says why; {goes_on}") from error
    if not trainer.global_step:
        raise ConfigError("no step was trained: raise trainer.max_steps, max_epochs or limit_train_batches")
    if trainer.is_global_zero:
        checkpoints.complete()
    with ending_together(trainer):
        stopping.resume_raising(f"at the end of training; resume={checkpoints.last_path} scores it")
    return trainer


def build_trainer(config: Config, folder: Path, **arguments: Any) -> L.Trainer:
    """Lightning's trainer with the arguments of ``config["trainer"]``.

    ``overfit_batches`` is ours: Lightning's would put its own sampler in the place of the one that knows the epoch.
    """
    settings = {**config["trainer"], "accumulate_grad_batches": batches_a_step(config)}
    if settings["accelerator"] == "cpu" or not torch.cuda.is_available():
        settings["sync_batchnorm"] = False  # it exists for GPUs alone
    if overfit := settings.pop("overfit_batches"):
        settings |= {"limit_train_batches": overfit, "limit_val_batches": overfit}
    try:
        trainer = L.Trainer(
            **settings,
            **arguments,
            default_root_dir=folder,
            plugins=[AtomicCheckpointIO()],
            use_distributed_sampler=False,  # our sampler knows rank and epoch
            enable_model_summary=False,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {str(error).splitlines()[0]}") from error
    return leave_signals_alone(trainer)


def score(trainer: L.Trainer, module: VisionModule, data: VisionData, path: Path) -> dict[str, Any]:
    """The metrics of a checkpoint; none where nothing is validated."""
    content = checkpoint.read(path)
    checkpoint.load_weights(module.network, checkpoint.network_weights(content), path)
    module.metrics.clear()
    with data.worker_errors():
        trainer.validate(module, data, verbose=False)
    if not module.metrics:
        return {}
    return {"step": content["global_step"], "epoch": content["epoch"], **merged(module.metrics, len(data.val_set))}


def score_end(
    trainer: L.Trainer, module: VisionModule, data: VisionData, saved: RunCheckpoints, best: Path
) -> dict[str, Any]:
    """The metrics of what a run ended with between two validations, if it is the best; it is kept as that then."""
    last = best.with_name("last.ckpt")
    if saved.best is None and checkpoint.read(best)["global_step"] != checkpoint.read(last)["global_step"]:
        saved.best = module.score if score(trainer, module, data, best) else None  # killed before it was scored
    metrics = score(trainer, module, data, last)
    if not metrics:
        return {}
    highest = module.score if saved.best is None else max(saved.best, module.score)
    if trainer.is_global_zero:
        if module.score == highest:
            checkpoint.copy(last, best)
        saved.record(highest, last, best)
    return metrics if module.score == highest else {}


def finish(
    config: Config, module: VisionModule, data: VisionData, folder: Path, fitted: L.Trainer
) -> Mapping[str, Any]:
    """Score the best checkpoint; write and print the numbers."""
    # Processes that were started apart may have named the folder otherwise.
    best = fitted.strategy.broadcast(folder) / "best.ckpt"
    fitted.strategy.barrier()
    evaluator = module.evaluators.get("detection")
    pictures = Pictures(folder=best.with_name("samples"), data=data.sets)
    trainer = build_trainer(config, folder, callbacks=[pictures], logger=False, enable_checkpointing=False)
    saved = fitted.checkpoint_callback
    assert isinstance(saved, RunCheckpoints)
    metrics: dict[str, Any] = {}
    if saved.scored_step < fitted.global_step:
        metrics = score_end(trainer, module, data, saved, best)
    metrics = metrics or score(trainer, module, data, best)
    if not metrics:
        logger.warning("nothing was scored: trainer.limit_val_batches=%s", config["trainer"]["limit_val_batches"])
        return {}
    if trainer.is_global_zero:
        write_metrics(folder / "metrics.json", metrics)
        if isinstance(evaluator, BoxEvaluator):
            write_coco_results(folder / "predictions.json", evaluator.results, evaluator.annotations)
        if isinstance(pairs := module.evaluators.get("embedding"), Verification):
            plot_roc(pairs.curve.false_accepts, pairs.curve.true_accepts, folder / "roc.png")
        print(format_table(metrics))
        print(
            f"\nscored {metrics['images']} of {metrics['images_total']} pictures with {best} (step {metrics['step']})"
        )
        print(f"pictures   {folder / 'samples'}")
        if (curves := folder / "curves.png").exists():  # not of a run that logged nothing
            print(f"curves     {curves}")
        following = f"python tools/predict.py checkpoint={shlex.quote(str(best))} source=PICTURE_OR_FOLDER"
        print(f"next       {as_typed(following)}")
    return metrics
