"""Parameter groups, schedules by hand-worked numbers, and the average of the weights."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from mbvision.engine.optim import Schedule, cosine, exponential, parameter_groups, poly, step
from mbvision.engine.weight_average import WarmAverage
from mbvision.errors import ConfigError, TrainingError


def rates(schedule: Schedule, total: int, **arguments: float | tuple[float, ...]) -> list[float]:
    """The rate of every step and the one after the last, from a base rate of 1."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, total, **arguments)
    seen = []
    for _ in range(total + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_norms_and_biases_are_not_decayed_and_every_parameter_is_in_one_group() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False)
    )
    decayed, others = parameter_groups(network)
    assert [id(p) for p in decayed["params"]] == [id(network[0].weight), id(network[4].weight)]
    assert "weight_decay" not in decayed and others["weight_decay"] == 0.0
    assert len(others["params"]) == 1 + 2 + 2 + 2


def test_frozen_parameters_are_in_no_group() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(network)] == [1, 1]


def test_cosine_is_half_way_at_half_the_steps_and_ends_at_its_final_factor() -> None:
    assert rates(cosine, 4, final_factor=0.2) == pytest.approx(
        [1.0, 0.2 + 0.4 * (1 + math.sqrt(0.5)), 0.6, 0.2 + 0.4 * (1 - math.sqrt(0.5)), 0.2]
    )


def test_poly_is_a_power_of_the_share_of_steps_left() -> None:
    assert rates(poly, 4, power=2.0) == pytest.approx([1.0, 9 / 16, 1 / 4, 1 / 16, 0.0])
    assert rates(poly, 2, power=1.0, final_factor=0.2) == pytest.approx([1.0, 0.6, 0.2])
    with pytest.raises(ConfigError, match=r"schedule\.power=0"):
        rates(poly, 2, power=0.0)


def test_warm_up_rises_in_a_line_and_multiplies_the_schedule() -> None:
    # Warm-up factors 0.1, 0.4, 0.7, then 1; decay halves after every second step.
    assert rates(exponential, 8, every_steps=2, gamma=0.5, warmup_steps=3, warmup_factor=0.1) == pytest.approx(
        [0.1, 0.4, 0.7 * 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625]
    )


def test_steps_fall_at_their_shares_of_all_steps() -> None:
    assert rates(step, 10, milestones=(0.5, 0.8), gamma=0.1) == pytest.approx([1.0] * 5 + [0.1] * 3 + [0.01] * 3)


def test_warm_up_takes_at_most_half_of_a_short_run() -> None:
    assert rates(step, 4, milestones=(), warmup_steps=300, warmup_factor=0.0) == pytest.approx([0, 0.5, 1, 1, 1])


def test_a_run_that_goes_past_its_last_step_keeps_the_last_rate() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = cosine(optimizer, 2, final_factor=0.1)
    assert scheduler.lr_lambdas[0](50) == pytest.approx(0.1)


@pytest.mark.parametrize("arguments", [{"warmup_steps": -1}, {"warmup_factor": 1.5}])
def test_a_warm_up_that_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="warmup"):
        rates(cosine, 2, **arguments)
    with pytest.raises(ConfigError, match="every_steps=0"):
        rates(exponential, 2, every_steps=0)


def test_the_average_follows_the_hand_worked_recursion() -> None:
    from torch.optim.swa_utils import AveragedModel

    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(1))
    model.register_buffer("mean", torch.zeros(1))
    model.register_buffer("count", torch.zeros((), dtype=torch.int64))
    callback = WarmAverage(decay=0.25)
    average = AveragedModel(model, use_buffers=True, multi_avg_fn=callback._kwargs["multi_avg_fn"])
    # After n updates the decay is min(0.25, (1 + n) / (10 + n)): 2/11, then 3/12 = 0.25, then 0.25. The first value
    # is taken as it is.
    expected = [8.0, 8 * 2 / 11 + 4 * 9 / 11]
    expected.append(expected[1] * 0.25 + 2 * 0.75)
    expected.append(expected[2] * 0.25 + 1 * 0.75)
    for steps, (value, wanted) in enumerate(zip([8.0, 4.0, 2.0, 1.0], expected, strict=True)):
        callback._latest_update_step = steps
        model.weight.data.fill_(value)
        model.mean.fill_(10 * value)
        model.count += 1
        average.update_parameters(model)
        assert average.module.weight.item() == pytest.approx(wanted, rel=1e-6)
        assert average.module.mean.item() == pytest.approx(10 * wanted, rel=1e-6)
        assert average.module.count == model.count


def test_an_average_of_every_third_step_decays_as_much_in_three_steps() -> None:
    every = WarmAverage(decay=0.9, every_n_steps=3)
    every._latest_update_step, every._steps = 1000, 3
    assert [step for step in range(9) if every.should_update(step_idx=step)] == [2, 5, 8]
    assert not every.should_update(epoch_idx=2)
    average, value = torch.tensor([1.0]), torch.tensor([0.0])
    every._kwargs["multi_avg_fn"]([average], [value], torch.tensor(1000))
    assert average.item() == pytest.approx(0.9**3)
    with pytest.raises(TrainingError, match="ema_every_n_steps=0"):
        WarmAverage(decay=0.9, every_n_steps=0)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(TrainingError, match="ema_decay"):
        WarmAverage(decay=decay)
