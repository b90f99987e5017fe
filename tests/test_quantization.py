"""Rounding to 8 bits: hand-worked numbers, and ranges that lose least."""

import pytest
import torch

from mbvision.quantization import Histogram, Range, decibels, rounded, rounded_weights, weight_steps


def histogram(values: torch.Tensor) -> Histogram:
    found = Histogram()
    found.see(values)
    found.count(values)
    return found


def test_values_fall_on_the_nearest_of_256() -> None:
    values = torch.tensor([-0.3, 0.0, 0.004, 0.51, 2.55, 9.0])
    expected = torch.tensor([0.0, 0.0, 0.0, 0.51, 2.55, 2.55])  # steps of 0.01 from 0 to 2.55
    torch.testing.assert_close(rounded(values, Range(0.0, 2.55)), expected)


def test_zero_stays_zero_in_a_range_on_both_sides() -> None:
    assert rounded(torch.zeros(1), Range(-0.37, 1.93)).item() == 0


def test_each_channel_of_the_weights_has_a_step_of_its_own() -> None:
    weights = torch.tensor([[1.27, -0.634], [0.00127, 0.0]])
    torch.testing.assert_close(weight_steps(weights), torch.tensor([0.01, 0.00001]))
    torch.testing.assert_close(rounded_weights(weights), torch.tensor([[1.27, -0.63], [0.00127, 0.0]]))


def test_channels_of_zeros_stay_zeros() -> None:
    assert not rounded_weights(torch.zeros(2, 3)).any()


def test_the_best_range_is_the_whole_of_evenly_spread_values() -> None:
    best = histogram(torch.linspace(-1, 3, 10_000)).best()
    assert best == pytest.approx((-1, 3), abs=1e-6)


def test_the_best_range_leaves_out_what_is_rare_and_far() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.randn(200_000), torch.tensor([9.0])])
    found = histogram(values)
    cut, whole = (decibels([values], [rounded(values, span)]) for span in (found.best(), found.whole()))
    assert found.best().high < 9 and cut > whole


def test_a_tensor_of_zeros_has_a_range() -> None:
    span = histogram(torch.zeros(5)).best()
    assert torch.equal(rounded(torch.zeros(5), span), torch.zeros(5))


def test_ranges_are_seen_over_several_pictures() -> None:
    found = Histogram()
    for values in (torch.tensor([0.5, 1.0]), torch.tensor([-2.0, 0.1])):
        found.see(values)
    assert found.whole() == (-2.0, 1.0)


def test_decibels_of_a_noise_of_a_hundredth_are_20() -> None:
    assert decibels([torch.ones(4)], [torch.full((4,), 1.1)]) == pytest.approx(20, abs=1e-4)
    assert decibels([torch.ones(4)], [torch.ones(4)]) == float("inf")
