"""The commands: one module with a ``main`` each. ``mbvision NAME`` and ``python tools/NAME.py`` are the same."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module

from mbvision.commands.memory import keep_freed_memory
from mbvision.errors import MBVisionError

COMMANDS = {
    "train": "train a network, and score it",
    "evaluate": "score a checkpoint on a data set, or the results of another program",
    "predict": "draw and write what a checkpoint finds in pictures",
    "export": "write a checkpoint's weights as safetensors",
    "complexity": "count parameters, multiply-adds and activation memory of a network",
    "check_data": "say what is wrong in a data set, by file and object",
    "prepare_data": "unpack official archives, convert YOLO data sets",
    "doctor": "say what is installed, and what on this machine will hurt",
}
NOISE = (
    r".*isinstance\(treespec, LeafSpec\)",  # lightning 2.6 under torch 2.15
    r".*does not have many workers",  # loader.workers is the user's choice
    r"Found \d+ module\(s\) in eval mode",  # freeze=backbone wants it so
    r"The number of training batches",  # log_every_n_steps with few batches
)
"""Warnings of libraries that tell a user nothing."""


def run(command: Callable[[Sequence[str]], int | None], arguments: Sequence[str]) -> int:
    """Run a command; a user's mistake is one line on stderr and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    keep_freed_memory()
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).propagate = False  # they have handlers of their own
    try:
        return command(arguments) or 0
    except MBVisionError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush fails once more
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def one_line(error: MBVisionError) -> str:
    """The message; of an error that a loader's worker raised, the part after the worker's traceback."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return text


def main() -> None:
    """The console script: ``mbvision NAME key=value ...``."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in COMMANDS:
        width = max(map(len, COMMANDS))
        lines = [f"  {name.ljust(width)}  {what}" for name, what in COMMANDS.items()]
        print("\n".join(["usage: mbvision COMMAND key=value ...", *lines, "mbvision COMMAND --help shows its keys"]))
        sys.exit(0 if not arguments or arguments[0] in ("-h", "--help") else 2)
    sys.exit(run(import_module(f"mbvision.commands.{arguments[0]}").main, arguments[1:]))
