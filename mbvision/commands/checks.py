"""What is wrong with a training configuration, before data or device are touched."""

import torch

from mbvision.build import Config, build_network, build_tasks, deferred, eval_size, input_size, locate, make
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
    devices = trainer["devices"]
    numbers = devices if isinstance(devices, list) else [devices]
    if devices != "auto" and (devices in (0, []) or not all(str(n).isdecimal() and n is not True for n in numbers)):
        raise ConfigError(f"trainer.devices={devices}: give auto, how many, or a list of their numbers")
    if trainer["max_epochs"] == -1 and trainer["max_steps"] == -1:
        raise ConfigError("trainer.max_epochs=-1 and trainer.max_steps=-1: one of them must set an end")
    every = trainer["check_val_every_n_epoch"] or 1
    if config["early_stopping"] is not None and (
        trainer["limit_val_batches"] == 0 or 0 <= (trainer["max_epochs"] or -1) < every
    ):
        raise ConfigError(
            f"early_stopping={config['early_stopping']}: nothing is validated with trainer.limit_val_batches="
            f"{trainer['limit_val_batches']}, trainer.check_val_every_n_epoch={every} and trainer.max_epochs="
            f"{trainer['max_epochs']}"
        )
    check_distillation(config)
    if config["quantize"] and not config["pretrained"]:
        raise ConfigError("quantize=int8 trains on what has learnt already: say pretrained=CHECKPOINT")
    if set(config["heads"]) != set(config["tasks"]):
        raise ConfigError(
            f"heads {sorted(config['heads'])} and tasks {sorted(config['tasks'])} must have the same names"
        )
    for key in ("limit_train_batches", "limit_val_batches", "overfit_batches"):
        if isinstance(trainer[key], float) and trainer[key] > 1:
            raise ConfigError(f"trainer.{key}={trainer[key]}: give a share up to 1.0, or a whole number of batches")
    transform = config["transform"]
    make(transform["train"], "transform.train", size=input_size(config))
    make(transform["evaluate"], "transform.evaluate", size=eval_size(config))
    if transform.get("mix"):
        make(transform["mix"], "transform.mix", num_classes=2)
    for data in config["data"]["sets"] or [config["data"]]:
        for task, node in data["readers"].items():
            locate(node, f"data.readers.{task}")
    build_tasks(config)
    with torch.device("meta"):  # no memory, no random numbers: only the arguments are tried
        network = build_network(config, dict.fromkeys(config["heads"], 1))
        optimizer = deferred(config["optimizer"], "optimizer")(parameter_groups(network))
        if config["schedule"]:
            deferred(config["schedule"], "schedule")(optimizer, 1000)
