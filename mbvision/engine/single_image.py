"""Batch norm on a batch of one image."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


@contextmanager
def norms_of_single_values(network: nn.Module) -> Iterator[None]:
    """While inside, a batch norm that gets one value per channel uses its running statistics: one has no variance.

    That happens on 1x1 maps, and for the one image which an odd data set leaves for its last batch.
    """
    switched: list[nn.Module] = []

    def switch(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        if norm.training and inputs[0].numel() == inputs[0].shape[1]:
            _say_once()
            switched.append(norm.eval())

    # SyncBatchNorm is no BatchNorm2d: it takes its statistics over all processes.
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(switch) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm in switched:
            norm.train()


@cache
def _say_once() -> None:
    logger.warning(
        "a batch of one image: batch norms of 1x1 maps use their running statistics for it; loader.batch_size= of 2 or"
        " more trains them better"
    )
