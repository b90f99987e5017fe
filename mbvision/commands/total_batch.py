"""How many images one optimizer step takes, on any number of processes: what a recipe's learning rate belongs to."""

import logging
from collections.abc import Mapping
from typing import Any

from mbvision.commands.machine import local_processes
from mbvision.commands.run_folder import first_process
from mbvision.errors import ConfigError

logger = logging.getLogger(__name__)


def check_total_batch(config: Mapping[str, Any]) -> None:
    """Refuse a ``loader.total_batch_size`` that cannot be reached here, and report how it is."""
    count = batches_a_step(config)
    total, batch = config["loader"]["total_batch_size"], config["loader"]["batch_size"]
    if total is not None and first_process():
        processes = _processes(config["trainer"])
        made = f"{batch} images x {processes} processes x {count} accumulated batches"
        cut = " (the epoch has no more batches)" if batch * processes * count < total else ""
        logger.info("loader.total_batch_size=%d: a step takes %s%s", total, made, cut)


def batches_a_step(config: Mapping[str, Any]) -> int:
    """The batches of each process whose gradients are accumulated for one step, to reach ``loader.total_batch_size``.

    Without that key it is ``trainer.accumulate_grad_batches``. Where an epoch is cut to fewer batches
    (``trainer=debug``, ``trainer=overfit``), it is those. Raises `ConfigError` where no number gives the total.
    """
    trainer, loader = config["trainer"], config["loader"]
    given: int = trainer["accumulate_grad_batches"]
    total: int | None = loader["total_batch_size"]
    if total is None:
        return given
    batch, processes = loader["batch_size"], _processes(trainer)
    count, rest = divmod(total, batch * processes)
    where = f"loader.batch_size={batch}" + (f" on each of {processes} processes" if processes > 1 else "")
    otherwise = "or loader.total_batch_size=null with an optimizer.lr of your own"
    if rest or not count:
        remedy = _remedy(total, batch, processes)
        raise ConfigError(f"{where} cannot make loader.total_batch_size={total}: set {remedy}, {otherwise}")
    if given not in (1, count):
        raise ConfigError(
            f"trainer.accumulate_grad_batches={given}: {where} makes loader.total_batch_size={total} in {count}"
            f" batches; leave that key out, {otherwise}"
        )
    limit = trainer["overfit_batches"] or trainer["limit_train_batches"]
    return min(count, limit) if isinstance(limit, int) and limit > 0 else count


def _processes(trainer: Mapping[str, Any]) -> int:
    nodes: int = trainer["num_nodes"]
    return local_processes(trainer) * nodes


def _remedy(total: int, batch: int, processes: int) -> str:
    """The largest batch size up to ``batch`` that fits, or another number of processes."""
    share, uneven = divmod(total, processes)
    if uneven:
        return f"a number of trainer.devices that divides {total}"
    return f"loader.batch_size={max(size for size in range(1, min(share, batch) + 1) if share % size == 0)}"
