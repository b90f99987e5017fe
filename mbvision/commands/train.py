"""``train``: fit a network to a data set, keep the best checkpoint, score it, and leave a run folder to look at."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mbvision.build import Config, build_network, build_reader, build_tasks, deferred, input_size
from mbvision.commands.compose import compose_config, expand_sweeps, wants_help
from mbvision.commands.run_folder import read_command, run_folder, write_config
from mbvision.data.slots import with_class_order
from mbvision.engine.optim import parameter_groups
from mbvision.errors import ConfigError

HELP = """\
Train a network: python tools/train.py task=ssdlite backbone=mobilenet_v3_small data.root=FOLDER ...

  task=ssdlite                 ssd, ssdlite_tensorflow, ssdlite_torchvision: the head, its loss and its post-processing
  backbone=mobilenet_v3_large  mobilenet_v1, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_{large,small}_minimalistic
  backbone.width=1.0           width multiplier            backbone.weights=PATH  the trunk's weights only
  input_size=320               or [height,width]           output_stride=32       16, 8
  data=scenes                  coco, voc                   data.root=FOLDER       data.images=FOLDER
  data.train_split=NAME        data.val_split=NAME         data.on_bad_item=skip  error
  loader.batch_size=32         loader.workers=2
  optimizer=sgd                rmsprop, adamw              optimizer.lr=0.05
  schedule=cosine              step, exponential           schedule.warmup_steps=300
  trainer=default              cpu, debug, overfit, ddp, two_nodes, slurm
  trainer.max_epochs=60        trainer.max_steps=-1        trainer.precision=bf16-mixed
  pretrained=PATH              whole network; reset_head=true where the classes differ; freeze=backbone
  resume=PATH                  go on where the run of that last.ckpt stopped
  run_dir=FOLDER               default runs/TASK/DATE-TIME
  threads=1                    of torch on the CPU; default one a core
  seed=0                       ema_decay=0.9998            early_stopping=10      tensorboard=true
  experiment=NAME              a published recipe: see conf/experiment
  --multirun                   runs every combination of comma lists: backbone.width=0.35,0.5,1.0

Debugging ladder: trainer=debug (one batch), trainer=overfit (learn one batch by heart), then look at
samples/train_batch.png in the run folder."""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Train once, or once for every combination of a sweep."""
    if wants_help(arguments):
        print(HELP)
        return 0
    runs = expand_sweeps(arguments)
    for number, overrides in enumerate(runs):
        config, command = configure(overrides)
        if len(runs) > 1:  # each run of a sweep has a folder of its own in the one that was named
            config["run_dir"] = str(run_folder(config) / str(number))
        train(config, command)
    return 0


def configure(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The checked configuration and the overrides it came from; ``resume=`` starts from those of the resumed run."""
    if plain := [argument for argument in overrides if "=" not in argument]:
        raise ConfigError(f"{plain[0]!r} is not key=value; --help shows the keys")
    given = dict(argument.partition("=")[::2] for argument in overrides)
    if "resume" in given:
        saved = Path(given["resume"]).parent / "config.yaml"
        if saved.is_file():
            command = read_command(saved)
            given = dict(argument.partition("=")[::2] for argument in command) | given
            given.setdefault("run_dir", str(saved.parent))
    merged = [f"{key}={value}" for key, value in given.items()]
    config = compose_config("train", merged)
    check(config)
    return config, merged


def check(config: Config) -> None:
    """Refuse values that make no sense before data or device are touched."""
    input_size(config)
    trainer = config["trainer"]
    for key in ("max_epochs", "max_steps"):
        value = trainer[key]
        if value is not None and (not isinstance(value, int) or value < -1):
            raise ConfigError(f"trainer.{key}={value}: give a whole number, or -1 for no limit")
    if trainer["max_epochs"] == -1 and trainer["max_steps"] == -1:
        raise ConfigError("trainer.max_epochs=-1 and trainer.max_steps=-1: one of them must set an end")
    for key in ("ema_decay", "early_stopping", "max_nan_steps"):
        value = config[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ConfigError(f"{key}={value}: give a number from 0 up, or null")
    if config["freeze"] not in (None, "backbone"):
        raise ConfigError(f"freeze={config['freeze']}: choose backbone, or null")
    if not isinstance(config["seed"], int) or config["seed"] < 0:
        raise ConfigError(f"seed={config['seed']}: give a whole number from 0 up")
    threads = config["threads"]
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ConfigError(f"threads={threads}: give a whole number from 1 up, or null for one a core")
    if set(config["heads"]) != set(config["tasks"]):
        raise ConfigError(
            f"heads {sorted(config['heads'])} and tasks {sorted(config['tasks'])} must have the same names"
        )
    build_tasks(config)
    with torch.device("meta"):  # no memory, no random numbers: only the arguments are tried
        network = build_network(config, dict.fromkeys(config["heads"], 1))
        optimizer = deferred(config["optimizer"], "optimizer")(parameter_groups(network))
        if config["schedule"]:
            deferred(config["schedule"], "schedule")(optimizer, 1000)


def train(config: dict[str, Any], command: Sequence[str]) -> Mapping[str, Any]:
    """Run a configuration; the metrics of the best checkpoint, as in ``metrics.json``."""
    import lightning.pytorch as L  # slow to import: not before the arguments are known to be right

    from mbvision.commands import fitting

    resume = Path(config["resume"]) if config["resume"] else None
    if resume:
        fitting.check_resumable(config, resume)
    folder = run_folder(config)
    L.seed_everything(config["seed"], verbose=False)
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    size = input_size(config)
    train_reader = build_reader(config, config["data"]["train_split"])
    val_reader = build_reader(config, config["data"]["val_split"])
    val_reader = with_class_order(val_reader, train_reader.class_names["detection"])
    network = build_network(config, {name: len(names) for name, names in train_reader.class_names.items()})
    fitting.load_start(network, config, train_reader.class_names)
    data = fitting.build_data(config, train_reader, val_reader, size)
    module = fitting.build_module(config, network, val_reader)
    if not resume:  # else the file stays as it is until the run has got over its start
        write_config(folder, config, command)
    logger.info("%d training and %d validation pictures; run folder %s", len(train_reader), len(val_reader), folder)
    trainer = fitting.fit(config, module, data, folder, resume)
    write_config(folder, config, command)
    return fitting.finish(config, module, data, folder, trainer)
