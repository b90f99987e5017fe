"""Times that are taken in turn, and what is told of them."""

import time

import pytest
import torch
from torch import Tensor, nn

from mbvision.commands.profiling import REST, layer_times, slowest
from mbvision.deploy.latency import WHOLE, Case, Spent, interleaved


def busy(milliseconds: float) -> None:
    start = time.process_time()
    while 1000 * (time.process_time() - start) < milliseconds:
        pass


def test_median_and_percentile_are_those_of_the_rounds() -> None:
    found = Spent(cpu_ms=[5.0, 1.0, 4.0, 2.0, 3.0], wall_ms=[10.0] * 5).summary()
    # sorted 1 2 3 4 5: the 95th percentile lies 0.8 of the way from the fourth to the fifth
    assert found["cpu_ms_median"] == 3 and found["cpu_ms_p95"] == pytest.approx(4.8)
    assert found["wall_ms_median"] == found["wall_ms_p95"] == 10


def test_cases_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []
    cases = [Case(name=name, steps=[("run", lambda _, name=name: calls.append(name))]) for name in "ab"]
    ticks: list[None] = []
    spent = interleaved(cases, rounds=3, tick=lambda: ticks.append(None))
    assert calls == ["b", "a", "a", "b", "b", "a", "a", "b"] and len(ticks) == 3
    assert len(spent["a"]["run"].cpu_ms) == len(spent["b"][WHOLE].wall_ms) == 3


def test_a_step_gets_what_the_one_before_gave_and_the_whole_is_their_sum() -> None:
    seen: list[object] = []

    def first(given: object) -> int:
        seen.append(given)
        busy(4)
        return 7

    case = Case(name="a", steps=[("first", first), ("second", seen.append)], given="start", units=2)
    spent = interleaved([case], rounds=2)["a"]
    assert seen == ["start", 7] * 3
    assert min(spent["first"].cpu_ms) >= 2  # 4 ms for two units
    for kind in ("cpu_ms", "wall_ms"):
        parts = zip(getattr(spent["first"], kind), getattr(spent["second"], kind), strict=True)
        assert getattr(spent[WHOLE], kind) == [sum(pair) for pair in parts]


class Slow(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        busy(3)
        return inputs + 1


def test_the_slowest_layer_comes_first() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), Slow()), nn.Identity())
    times = layer_times(network, torch.zeros(2))
    assert set(times) == {("0", "ReLU"), ("1.0", "ReLU"), ("1.1", "Slow"), (REST, "")}
    found = slowest(times)
    assert (found[0]["name"], found[0]["kind"]) == ("1.1", "Slow")
    assert found[0]["ms"] >= 3 and 0.5 < found[0]["share"] <= 1
    assert sum(one["share"] for one in found) == pytest.approx(1)
