"""What a command or a training changes for the whole process is as it was before, once it is over.

They may run in a program that continues afterwards: a notebook, a server, a search over settings.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

NOISE = (
    r".*isinstance\(treespec, LeafSpec\)",  # lightning 2.6 under torch 2.15
    r".*does not have many workers",  # loader.workers is the user's choice
    r"Found \d+ module\(s\) in eval mode",  # freeze=backbone wants it so
    r"This DataLoader will create",  # our own warning says it better
    r"The number of training batches",  # log_every_n_steps with few batches
)
"""Warnings of libraries that do not help a user."""
QUIET = ("lightning.pytorch", "lightning.fabric", "onnx_ir", "onnxscript", "coremltools")
"""Loggers that report every step of a trainer's start, and every rewrite of a graph."""


@contextmanager
def messages_of_a_command() -> Iterator[None]:
    """While inside, log lines and warnings go to stderr as plain lines, without those of libraries that do not help."""
    root, quiet = logging.getLogger(), [logging.getLogger(name) for name in QUIET]
    handlers, level = list(root.handlers), root.level
    before = [(logger, logger.level, logger.propagate) for logger in quiet]
    captured = warnings.showwarning.__module__ == "logging"
    with warnings.catch_warnings(), ExitStack() as stack:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        if not captured:
            logging.captureWarnings(True)
            stack.callback(logging.captureWarnings, False)
        for message in NOISE:
            warnings.filterwarnings("ignore", message=message)
        for logger in quiet:
            logger.setLevel(logging.WARNING)
            if logger.name.startswith("lightning"):
                logger.propagate = False  # they have handlers of their own
        try:
            yield
        finally:
            for handler in set(root.handlers) - set(handlers):
                root.removeHandler(handler)
            root.setLevel(level)
            for logger, old_level, propagate in before:
                logger.setLevel(old_level)
                logger.propagate = propagate


@contextmanager
def any_text_on_stdout() -> Iterator[None]:
    """While inside, a name that the terminal's encoding lacks is printed as an escape, as stderr does by itself."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):  # of a notebook
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # it flushes, where the disk is full or the stream closed too
            stream.reconfigure(errors=errors)


@contextmanager
def same_environment() -> Iterator[None]:
    """Afterwards the environment variables are those from before."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextmanager
def same_torch() -> Iterator[None]:
    """Afterwards all random generators, torch's deterministic mode and its number of threads are those from before."""
    import torch  # slow to import

    from mbvision.engine import random_state

    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    states = random_state.capture(device)
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn: Any = torch.backends.cudnn
    flags, threads = (cudnn.benchmark, cudnn.deterministic), torch.get_num_threads()
    try:
        yield
    finally:
        random_state.restore(states, device)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        cudnn.benchmark, cudnn.deterministic = flags
        torch.set_num_threads(threads)
