"""``train``: fit a network to a data set, keep the best checkpoint, score it, and leave a run folder to look at."""

import logging
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.commands.compose import compose_config, expand_sweeps, wants_help
from mbvision.commands.places import STARTS, check_places
from mbvision.commands.requeue import requeue, requeued_checkpoint
from mbvision.commands.run_folder import claimed, read_command, run_folder, write_config
from mbvision.commands.surroundings import same_environment, same_torch
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError
from mbvision.stopping import Stopped

HELP = """\
Train a network: python tools/train.py task=ssdlite backbone=mobilenet_v3_small data.root=FOLDER ...

  task=ssdlite                 ssd, ssdlite_tensorflow, ssdlite_torchvision: boxes
                               deeplabv3, deeplabv3_aspp, lraspp, ..._torchvision: masks; 'task=[ssdlite,lraspp]': both
                               classification: a class for each picture; attributes, embedding: faces
  backbone=mobilenet_v3_large  mobilenet_v1, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_{large,small}_minimalistic
  backbone.width=1.0           width multiplier            backbone.weights=PATH  the trunk's weights only
  input_size=320               or [height,width]           output_stride=32       16, 8
  fit=stretch                  letterbox, native, crop (crop_fraction=0.875): how a picture fills the input
  data=scenes                  coco, voc, cityscapes, camvid, masks_folder; data.root=FOLDER data.images=FOLDER
                               imagenet, image_folder; portraits, celeba, identities: faces
  'data.sets=[{name: coco, root: A, tasks: [detection]}, {name: camvid, root: B}]'   several sets, one for each task
  data.train_split=NAME        data.val_split=NAME         data.on_bad_item=skip  error
  loader.batch_size=32         images of each process       loader.workers=2
  loader.total_batch_size=256  images a step, on any number of processes: gradients are accumulated, or it is refused
  optimizer=sgd                rmsprop, adamw              optimizer.lr=0.05
  schedule=cosine              step, exponential, poly     schedule.warmup_steps=300
  trainer=default              cpu, debug, overfit, ddp, two_nodes, slurm
  trainer.max_epochs=60        trainer.max_steps=-1        trainer.precision=bf16-mixed
  pretrained=PATH              whole network; reset_head=true where the classes differ; freeze=backbone
  quantize=int8                train on through the rounding of 8 bits, where an export in 8 bits loses too much
  variant=timm                 torchvision, tensorflow: padding, BN epsilon, normalisation of their weights
  distill=PATH                 learn from another network's outputs too; distill_weight=1.0 distill_temperature=1.0
                               tasks.NAME.weight=0 leaves the labels out; distill_pictures=FOLDER adds pictures without
  resume=PATH                  continue where the run of that last.ckpt stopped
  run_dir=FOLDER               default runs/TASK/DATE-TIME
  threads=1                    of torch on the CPU; default one a core
  seed=0                       ema_decay=0.9998            early_stopping=10      tensorboard=true
  experiment=NAME              a published recipe: see conf/experiment; data=, optimizer=, schedule=, transform=,
                               variant= and trainer= outrank it: experiment=NAME trainer=debug is one batch
  --multirun                   runs every combination of comma lists: backbone.width=0.35,0.5,1.0

Debugging ladder: trainer=debug (one batch), trainer=overfit (overfit one batch), then look at
samples/train_batch.png in the run folder."""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Train once, or once for every combination of a sweep."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    runs = [prepare(overrides) for overrides in expand_sweeps(arguments)]  # a mistake in the last costs no training
    for number, (config, command) in enumerate(runs):
        if len(runs) > 1:  # each run of a sweep has a folder of its own in the one that was named
            config["run_dir"] = str(run_folder(config) / str(number))
        try:
            train(config, command)
        except Stopped as stop:
            if stop.signum == signal.SIGUSR1:
                requeue()
            raise
    return 0


def prepare(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """As ``configure``, once the files and folders that are named are known to be there."""
    config, command = compose_command(overrides)
    check_places(config)
    _check(config)
    return config, command


def configure(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The checked configuration and the overrides it came from."""
    config, command = compose_command(overrides)
    _check(config)
    return config, command


def _check(config: Mapping[str, Any]) -> None:
    from mbvision.commands.checks import check  # slow to import: not before the keys are known to be right

    check(config)


def compose_command(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The configuration and the overrides it came from; ``resume=`` starts from those of the resumed run."""
    if plain := [argument for argument in overrides if "=" not in argument]:
        raise ConfigError(f"{plain[0]!r} is not key=value; --help shows the keys")
    given = dict(argument.partition("=")[::2] for argument in overrides)
    if "resume" not in given and (path := requeued_checkpoint(given.get("run_dir"))):
        given["resume"] = str(path)
    if "resume" in given:
        saved = Path(given["resume"]).parent / "config.yaml"
        if saved.is_file():
            before = dict(argument.partition("=")[::2] for argument in read_command(saved))
            own = [key for key in given if key not in ("resume", "run_dir") and given[key] != before.get(key)]
            if started := [key for key in own if key in STARTS]:
                raise ConfigError(
                    f"{started[0]}={given[started[0]]}: a run that is resumed has the weights of its checkpoint; leave"
                    " the key out, or start a new run without resume="
                )
            if own:
                changed = ", ".join(f"{key}={given[key]} (was {before.get(key, 'not given')})" for key in own)
                logger.warning("the run continues with other keys: %s", changed)
            given = {**before, "run_dir": str(saved.parent), **given}  # where it is now: a run folder can be moved
    merged = [f"{key}={value}" for key, value in given.items()]
    return compose_config("train", merged), merged


@same_environment()
@same_torch()
def train(config: dict[str, Any], command: Sequence[str]) -> Mapping[str, Any]:
    """Run a configuration; the metrics of the best checkpoint, as in ``metrics.json``."""
    from mbvision.commands import resuming

    resume = Path(config["resume"]) if config["resume"] else None
    if resume:
        resuming.check_resumable(config, resume)
    with claimed(config) as folder:
        return _train_in(folder, config, command, resume)


def _train_in(folder: Path, config: dict[str, Any], command: Sequence[str], resume: Path | None) -> Mapping[str, Any]:
    import lightning.pytorch as L  # slow to import
    import torch

    from mbvision.build import build_network, input_size
    from mbvision.commands import fitting, label_checks, resuming
    from mbvision.commands.costs import format_costs, joint_costs
    from mbvision.commands.data_report import tell_findings
    from mbvision.commands.machine import check_machine
    from mbvision.commands.total_batch import check_total_batch
    from mbvision.engine.signals import ending_together

    if resume:
        resuming.take_along(resume, folder)
    L.seed_everything(config["seed"], verbose=False)
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    size = input_size(config)
    check_machine(config, size)
    check_total_batch(config)
    train_reader, val_reader = fitting.build_readers(config)
    if resume:
        resuming.check_same_classes(resume, train_reader.class_names)
    fitting.check_boxes(config, train_reader, val_reader)
    label_checks.check_labels(config, train_reader, val_reader)
    num_classes = {name: len(train_reader.class_names[name]) for name in config["heads"]}
    network = build_network(config, num_classes)
    tell_findings(config, network, train_reader, val_reader)
    if len(num_classes) > 1:
        logger.info("%s", format_costs(joint_costs(config, num_classes)))
    fitting.load_start(network, config, train_reader.class_names)
    if resume:
        resuming.check_same_parameters(resume, network)
    data = fitting.build_data(config, train_reader, val_reader, size)
    module = fitting.build_module(config, network, val_reader)
    if not resume:  # else the file stays as it is until the run has got over its start
        write_config(folder, config, command)
    logger.info("%d training and %d validation pictures; run folder %s", len(train_reader), len(val_reader), folder)
    trainer = fitting.fit(config, module, data, folder, resume)
    with ending_together(trainer):
        write_config(folder, config, command)
        return fitting.finish(config, module, data, folder, trainer)
