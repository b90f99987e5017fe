"""What is wrong with a training configuration, before data or device are touched."""

import torch

from mbvision.build import Config, build_network, build_tasks, deferred, eval_size, input_size
from mbvision.commands.distilling import check_distillation
from mbvision.engine.optim import parameter_groups
from mbvision.errors import ConfigError


def check(config: Config) -> None:
    """Refuse values that make no sense before data or device are touched."""
    input_size(config)
    eval_size(config)
    if config["fit"] == "crop" and (cut := {"detection", "segmentation"} & set(config["heads"])):
        raise ConfigError(f"fit=crop cuts off what {' and '.join(sorted(cut))} must see: say fit=stretch or letterbox")
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
    check_distillation(config)
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
