"""Signals that ask a command to stop: SIGTERM, SIGINT (Ctrl-C), and SIGUSR1, which warns of the end of a cluster's job.

The handler writes nothing. Where work can be put down between two steps (`defer`) it notes the signal for the loop to
see; everywhere else it raises `Stopped`, which nothing catches below the door of the commands.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stopped(BaseException):
    """A signal asked to stop; ``state`` says what was reached. No `Exception`: those are often turned into others."""

    def __init__(self, signum: int, state: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}{state and ' '}{state}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, else 143: what a shell reports of programs that these signals end."""
        return 128 + (signal.SIGINT if self.signum == signal.SIGINT else signal.SIGTERM)


@dataclass(slots=True)
class _State:
    owner: int = 0  # the process that listens; those forked from it ignore the signals
    requested: int = 0
    deferred: bool = False
    finishing: bool = False


_state = _State()  # signals belong to a process, not to an object


def requested() -> int:
    """The signal that asked to stop; 0 for none."""
    return _state.requested


def defer() -> None:
    """From now on a signal is noted alone; a Ctrl-C after another signal still stops at once."""
    _state.deferred = True


def finish() -> None:
    """From now on no signal interrupts, a second Ctrl-C neither: files that were begun are given their end."""
    _state.finishing = True


def resume_raising(state: str = "") -> None:
    """The end of what `defer` and `finish` began. Raises `Stopped` for a signal that nobody has acted upon."""
    _state.deferred = _state.finishing = False
    if _state.requested:
        raise Stopped(_state.requested, state)


@contextmanager
def listening() -> Iterator[None]:
    """While inside, `SIGNALS` end in `Stopped`; does nothing outside the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.owner, _state.requested, _state.deferred, _state.finishing = os.getpid(), 0, False, False
    before = {signum: signal.signal(signum, _handle) for signum in SIGNALS}
    try:
        yield
    finally:
        _state.requested, _state.deferred, _state.finishing = 0, False, False
        for signum, handler in before.items():
            signal.signal(signum, handler)


def ignore() -> None:
    """For processes that read pictures: the one that started them ends them when it is done."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def end_with_parent() -> None:
    """For the same processes: end as soon as the one that started this has died, by a kill or a lack of memory too."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _handle(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _state.owner:
        return
    at_once = not _state.deferred or (signum == signal.SIGINT and _state.requested != 0)
    _state.requested = _state.requested or signum
    if at_once and not _state.finishing:
        raise Stopped(signum)
