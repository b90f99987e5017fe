"""Order, errors, and threads that are gone afterwards."""

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing

import pytest

from mbvision.inference.overlap import overlapped


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def numbers(count: int, taken: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield number


def explode(number: int) -> int:
    if number == 3:
        raise RuntimeError("three is too much")
    return number


@pytest.mark.parametrize("depth", [1, 4])
def test_results_come_in_order(depth: int) -> None:
    assert list(overlapped(numbers(50), lambda n: n * n, depth=depth)) == [n * n for n in range(50)]


def test_no_items_give_no_results() -> None:
    assert list(overlapped([], explode)) == []


def test_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="depth=0"):
        next(overlapped([1], explode, depth=0))


def test_the_three_stages_run_in_three_threads_at_the_same_time() -> None:
    everyone = threading.Barrier(3, timeout=5)  # passed only when all three wait at once
    names: set[str] = set()

    def source() -> Iterator[int]:
        yield from (0, 1)
        names.add(threading.current_thread().name)
        everyone.wait()
        yield 2

    def work(number: int) -> int:
        if number == 1:
            names.add(threading.current_thread().name)
            everyone.wait()
        return number

    seen = []
    for number in overlapped(source(), work):
        seen.append(number)
        if number == 0:
            names.add(threading.current_thread().name)
            everyone.wait()
    assert seen == [0, 1, 2] and len(names) == 3


def test_nothing_runs_far_ahead_of_a_slow_consumer() -> None:
    taken: list[int] = []
    with closing(overlapped(numbers(1000, taken), lambda n: n, depth=2)) as results:
        next(results)
        time.sleep(0.05)
        assert len(taken) <= 8  # taken by the consumer, 2 results, 1 in work, 2 items, 1 at the door, 1 spare


def test_error_of_the_work_comes_after_the_results_before_it_with_its_traceback() -> None:
    seen = []
    with pytest.raises(RuntimeError, match="three is too much") as caught:
        for number in overlapped(numbers(1_000_000), explode):
            seen.append(number)
    assert seen == [0, 1, 2]
    assert "explode" in {entry.name for entry in traceback.extract_tb(caught.value.__traceback__)}


def test_error_of_the_source_comes_after_the_results_before_it_with_its_traceback() -> None:
    def broken_source() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the file is gone")

    seen = []
    with pytest.raises(OSError, match="the file is gone") as caught:
        for number in overlapped(broken_source(), lambda n: n):
            seen.append(number)
    assert seen == [1, 2]
    assert "broken_source" in {entry.name for entry in traceback.extract_tb(caught.value.__traceback__)}


def test_error_of_the_consumer_stops_the_others() -> None:
    taken: list[int] = []
    with (
        pytest.raises(ZeroDivisionError),
        closing(overlapped(numbers(1_000_000, taken), lambda n: n)) as results,
    ):
        for number in results:
            1 // number
    assert len(taken) < 20


def test_leaving_early_stops_both_threads() -> None:
    taken: list[int] = []
    for number in overlapped(numbers(1_000_000, taken), lambda n: n, depth=2):
        if number == 5:
            break
    time.sleep(0.02)
    assert len(taken) < 20


def test_closing_before_the_first_result_starts_nothing() -> None:
    taken: list[int] = []
    overlapped(numbers(10, taken), lambda n: n).close()
    assert taken == []


@pytest.mark.parametrize("where", ["source", "work", "consumer"])
def test_keyboard_interrupt_gets_through_from_anywhere(where: str) -> None:
    def interrupt(here: str, number: int) -> int:
        if here == where and number == 2:
            raise KeyboardInterrupt
        return number

    source = (interrupt("source", n) for n in range(100))
    with (
        pytest.raises(KeyboardInterrupt),
        closing(overlapped(source, lambda n: interrupt("work", n))) as results,
    ):
        for number in results:
            interrupt("consumer", number)


def test_waiting_costs_no_time() -> None:
    def slow() -> Iterator[int]:
        yield 1
        time.sleep(0.3)
        yield 2

    start = time.process_time()
    assert list(overlapped(slow(), lambda n: n)) == [1, 2]
    assert time.process_time() - start < 0.1
