"""A step that is not finite is dropped as a whole; see test_distributed for two processes."""

import math

import pytest
import torch
from torch import nn

from mbvision.engine.guard import StepGuard, all_finite
from mbvision.errors import TrainingError


def test_one_bad_batch_skips_the_whole_accumulated_step() -> None:
    network = nn.Linear(2, 1)
    guard = StepGuard(network, max_bad_steps=3)
    before = network.weight.clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    for scale in (1.0, math.nan):
        guard.start_batch()
        loss = network(torch.ones(1, 2)).sum() * scale
        guard.see_loss(loss, [7, 8] if scale == 1 else [9])
        loss.backward()
    guard.end_step(check_gradients=True)
    optimizer.step()
    assert torch.equal(network.weight, before) and not optimizer.state


def test_a_gradient_that_is_not_finite_skips_the_step_but_a_loss_scaler_is_left_to_its_work() -> None:
    network = nn.Linear(1, 1, bias=False)
    guard = StepGuard(network, max_bad_steps=0)
    guard.start_batch()
    guard.see_loss(torch.tensor(1.0), [1])
    network.weight.grad = torch.full((1, 1), torch.inf)
    guard.end_step(check_gradients=False)
    assert network.weight.grad is not None
    guard.see_loss(torch.tensor(1.0), [1])
    with pytest.raises(TrainingError, match=r"images \[1\]"):
        guard.end_step(check_gradients=True)
    assert network.weight.grad is None


def test_good_steps_in_between_forgive_bad_ones() -> None:
    guard = StepGuard(nn.Linear(1, 1), max_bad_steps=1)
    for value in (math.nan, 1.0, math.nan, 1.0):
        guard.start_batch()
        guard.see_loss(torch.tensor(value), [1])
        guard.end_step(check_gradients=True)


def test_large_values_are_finite_and_one_nan_or_inf_is_found() -> None:
    large = torch.full((1000,), 1e15)
    assert all_finite([large, torch.tensor([1])]) and all_finite([])
    for value in (torch.nan, torch.inf, -torch.inf):
        assert not all_finite([large, torch.tensor([0.0, value])])
