"""Three stages at once: items come in one thread, are worked on in another, and are used in the caller's.

Decoding, inference and encoding leave Python's lock for most of their time, so threads are enough.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

_PATIENCE_S = 0.2
"""Seconds between two looks at whether the caller has to stop, while nothing comes."""

T = TypeVar("T")
U = TypeVar("U")


class _Channel(Generic[T]):
    """A bounded queue between two threads that either side can end."""

    def __init__(self, depth: int) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room; False if nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._depth)
            if not self._ended:
                self._items.append(item)
                self._changed.notify_all()
            return not self._ended

    def end(self, error: BaseException | None = None) -> None:
        """No more items come: those inside are still taken, then the error, if any, is raised."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def abandon(self) -> None:
        """No more items are wanted."""
        with self._changed:
            self._items.clear()
            self._ended = True
            self._changed.notify_all()

    def taken(self, stopped: Callable[[], bool]) -> Iterator[T]:
        """The items as they come; no more of them as soon as ``stopped`` says so while none is there."""
        while True:
            with self._changed:
                while not self._changed.wait_for(lambda: self._ended or len(self._items) > 0, _PATIENCE_S):
                    if stopped():
                        return
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error


def _never() -> bool:
    return False


def overlapped(
    items: Iterable[T], work: Callable[[T], U], *, depth: int = 4, stopped: Callable[[], bool] = _never
) -> Generator[U, None, None]:
    """``work(item)`` for every item, in order, while the next items are fetched and the last results are used.

    Fetching and work have a thread each, which start with the first result asked for; ``depth`` items and ``depth``
    results wait at most. What either raises is raised here, with its traceback, after the results before it. Close the
    generator (``contextlib.closing``) to leave early: when that returns, both threads are gone. They are waited for, so
    an item or a result that is being made is finished first. While it waits for a result, it ends when ``stopped``
    gives True, as a signal that is noted alone wakes nobody up.
    """
    if depth < 1:
        raise ValueError(f"depth={depth}: must be at least 1")
    fetched: _Channel[T] = _Channel(depth)
    results: _Channel[U] = _Channel(depth)

    def fetch() -> None:
        try:
            for item in items:
                if not fetched.put(item):
                    break
            fetched.end()
        except BaseException as error:  # raised again by work, and so in the caller's thread
            fetched.end(error)

    def run() -> None:
        try:
            for item in fetched.taken(_never):
                if not results.put(work(item)):
                    break
            results.end()
        except BaseException as error:  # raised again in the caller's thread
            results.end(error)
        finally:
            fetched.abandon()

    threads = [threading.Thread(target=target, name=target.__name__, daemon=True) for target in (fetch, run)]
    try:
        for thread in threads:
            thread.start()
        yield from results.taken(stopped)
    finally:
        fetched.abandon()
        results.abandon()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
