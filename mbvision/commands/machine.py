"""What this machine can bear: told before a run starts, not by a process that dies in it."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

from mbvision.commands.doctor import shared_memory
from mbvision.commands.run_folder import first_process
from mbvision.errors import ConfigError

PREFETCH = 2
"""Batches that each loader process keeps ready: torch's default of ``prefetch_factor``."""

logger = logging.getLogger(__name__)


def check_machine(config: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Warn of more loader processes than cores; refuse more training processes, and batches above shared memory."""
    processes = local_processes(config["trainer"])
    on_processor = config["trainer"]["accelerator"] == "cpu" or not torch.cuda.is_available()
    if on_processor and processes > cores():
        raise ConfigError(
            f"trainer.devices={config['trainer']['devices']}: without a GPU each is a process of its own, and there are"
            f" {cores()} cores here; say trainer.devices=1"
        )
    workers, batch = config["loader"]["workers"], config["loader"]["batch_size"]
    if first_process() and (warning := too_many_workers(workers, processes, cores())):
        logger.warning("%s", warning)
    masks = "segmentation" in config["heads"]
    needed = processes * shared_memory_needed(workers=workers, batch_size=batch, size=size, masks=masks)
    free = shared_memory()
    if free is not None and needed > free:
        raise ConfigError(
            f"loader.workers={workers}: with {PREFETCH} batches of {batch} pictures of {size[0]}x{size[1]} ready in"
            f" each process, they need {mib(needed)} MiB of shared memory; /dev/shm has {mib(free)} MiB free: set"
            " loader.workers=0 or a smaller loader.batch_size, or enlarge it (docker run --shm-size=2g)"
        )


def cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def local_processes(trainer: Mapping[str, Any]) -> int:
    """The training processes on this machine: one for each of ``trainer.devices``, ``auto`` means all GPUs."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    return 1 if trainer["accelerator"] == "cpu" else max(torch.cuda.device_count(), 1)


def too_many_workers(workers: int, processes: int, cores: int) -> str:
    """A warning where loader processes, of one thread each, are more than cores; nothing where they are not."""
    if workers * processes <= cores:
        return ""
    each = f" in each of {processes} processes" if processes > 1 else ""
    return (
        f"loader.workers={workers}{each} with 1 thread each are more than the {cores} cores here: they slow one another"
        f" down; loader.workers={cores // processes} uses them all"
    )


def shared_memory_needed(*, workers: int, batch_size: int, size: tuple[int, int], masks: bool) -> int:
    """Bytes of the batches that loader processes keep ready for one training process; 0 without such processes.

    A picture is three bytes a pixel (uint8 RGB), its mask one more; boxes and labels weigh nothing beside them.
    """
    height, width = size
    return workers * PREFETCH * batch_size * height * width * (4 if masks else 3)


def mib(size: int) -> int:
    """Bytes in MiB, rounded up."""
    return -(-size // 2**20)
