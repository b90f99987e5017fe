"""Parameter groups and learning-rate schedules."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mbvision.errors import ConfigError

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
Schedule = Callable[[Optimizer, int], LambdaLR]


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: weights, and those without weight decay (norms and biases)."""
    exempt = {id(p) for module in network.modules() if isinstance(module, NORMS) for p in module.parameters()}
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (others if id(parameter) in exempt or name.endswith("bias") else decayed).append(parameter)
    return [{"params": decayed}, {"params": others, "weight_decay": 0.0}]


def apply_settings(optimizer: Optimizer, schedules: Sequence[LRScheduler], settings: Sequence[dict[str, Any]]) -> None:
    """Set the rates, decays and so on of an optimizer's groups, at the step that its schedules have come to.

    A checkpoint's state holds those of the run that wrote it, also where the run that continues was given others.
    """
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    for schedule in schedules:
        assert isinstance(schedule, LambdaLR)
        schedule.base_lrs = [own["lr"] for own in settings]
        factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
        schedule._last_lr = [lr * factor for lr, factor in zip(schedule.base_lrs, factors, strict=True)]
        for group, base, lr in zip(optimizer.param_groups, schedule.base_lrs, schedule._last_lr, strict=True):
            group["initial_lr"], group["lr"] = base, lr


def _scheduled(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int,
    warmup_factor: float,
    decay: Callable[[float], float],
) -> LambdaLR:
    """Linear warm-up from ``warmup_factor``, then ``decay`` of the steps done (a function of 0..total_steps)."""
    if warmup_steps < 0 or not 0 <= warmup_factor <= 1:
        raise ConfigError(
            f"schedule: warmup_steps={warmup_steps} is below 0, or warmup_factor={warmup_factor} not in 0..1"
        )
    warmup = min(warmup_steps, total_steps // 2)

    def factor(step: int) -> float:
        start = warmup_factor + (1 - warmup_factor) * step / warmup if step < warmup else 1.0
        return start * decay(min(step, total_steps))

    return LambdaLR(optimizer, factor)


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_factor: float = 0.333,
    final_factor: float = 0.0,
) -> LambdaLR:
    """Half a cosine from the base rate to ``final_factor`` of it at the last step."""

    def decay(step: float) -> float:
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * step / max(total_steps, 1)))

    return _scheduled(optimizer, total_steps, warmup_steps, warmup_factor, decay)


def step(
    optimizer: Optimizer,
    total_steps: int,
    *,
    milestones: tuple[float, ...] = (0.67, 0.89),
    gamma: float = 0.1,
    warmup_steps: int = 0,
    warmup_factor: float = 0.333,
) -> LambdaLR:
    """Times ``gamma`` at each milestone, a share of all steps."""

    def decay(done: float) -> float:
        return gamma ** sum(done >= share * total_steps for share in milestones)

    return _scheduled(optimizer, total_steps, warmup_steps, warmup_factor, decay)


def exponential(
    optimizer: Optimizer,
    total_steps: int,
    *,
    every_steps: int,
    gamma: float = 0.95,
    warmup_steps: int = 0,
    warmup_factor: float = 0.333,
) -> LambdaLR:
    """Times ``gamma`` after every ``every_steps`` steps."""
    if every_steps < 1:
        raise ConfigError(f"schedule.every_steps={every_steps}: must be at least 1")
    return _scheduled(optimizer, total_steps, warmup_steps, warmup_factor, lambda done: gamma ** (done // every_steps))


def poly(
    optimizer: Optimizer,
    total_steps: int,
    *,
    power: float = 0.9,
    final_factor: float = 0.0,
    warmup_steps: int = 0,
    warmup_factor: float = 0.333,
) -> LambdaLR:
    """(1 - share of steps done) to the ``power``, from the base rate to ``final_factor`` of it: DeepLab's policy.

    Power 0.9 is arXiv:1606.00915's, section 4.1.2.
    """
    if power <= 0:
        raise ConfigError(f"schedule.power={power}: must be above 0")

    def decay(done: float) -> float:
        return final_factor + (1 - final_factor) * float((1 - done / max(total_steps, 1)) ** power)

    return _scheduled(optimizer, total_steps, warmup_steps, warmup_factor, decay)
