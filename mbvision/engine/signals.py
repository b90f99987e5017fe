"""Signals are for `mbvision.stopping`: Lightning's own handlers write, exchange tensors and save inside a handler."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as L
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher


class NoSignalHandlers:
    """In the place of Lightning's connector, whose handler of SIGTERM ends a run with exit code 0 and no checkpoint."""

    received_sigterm = False

    def register_signal_handlers(self) -> None:
        """None."""

    def teardown(self) -> None:
        """There is nothing to put back."""


def leave_signals_alone(trainer: L.Trainer) -> L.Trainer:
    """The same trainer without signal handlers of its own; Lightning 2.6 has no public switch for that."""
    trainer._signal_connector = NoSignalHandlers()  # type: ignore[assignment]  # has all that is called
    return trainer


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """What ends this process ends those that ``trainer`` started: they hold nothing, and would wait for this one."""
    try:
        yield
    except BaseException:
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            for process in launcher.procs:
                process.kill()
            launcher.procs.clear()  # or Lightning's observer, which looks at this list, would kill this process too
        raise
