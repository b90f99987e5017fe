"""The commands: one module with a ``main`` each. ``mbvision NAME`` and ``python tools/NAME.py`` are the same."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from mbvision import stopping
from mbvision.commands.memory import keep_freed_memory
from mbvision.commands.surroundings import any_text_on_stdout, messages_of_a_command, same_environment
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError, MBVisionError, nearest
from mbvision.writing import do_without_temporary_folder, explain

COMMANDS = {
    "train": "train a network, and score it",
    "evaluate": "score a checkpoint on a data set, or the results of another program",
    "predict": "draw and write what a checkpoint finds in pictures",
    "export": "write a checkpoint as a file for another runtime, or its weights alone",
    "benchmark": "compare size, score, speed and memory of a checkpoint in every runtime",
    "complexity": "count parameters, multiply-adds and activation memory of a network",
    "check_data": "say what is wrong in a data set, by file and object",
    "prepare_data": "unpack official archives, convert YOLO data sets",
    "doctor": "say what is installed, and what on this machine will hurt",
}


def run(command: Callable[[Sequence[str]], int | None], arguments: Sequence[str]) -> int:
    """Run a command and return its exit code.

    A user's mistake is one line on stderr and 2; so is a signal that asks to stop, and 130 for Ctrl-C, else 143.
    """
    with same_environment(), messages_of_a_command(), any_text_on_stdout():
        return _run(command, arguments)


def _run(command: Callable[[Sequence[str]], int | None], arguments: Sequence[str]) -> int:
    try:
        with stopping.listening():
            _check_working_directory()
            do_without_temporary_folder()
            code = command(arguments) or 0
            sys.stdout.flush()  # a disk that is full is told here, with one line
            return code
    except stopping.Stopped as stop:
        return _after_signal(stop)
    except MBVisionError as error:
        text = as_typed(one_line(error))
        _say(f"error: {text}{encoding_hint(text)}")
        return 2
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        _drop_output()
        return 0
    except OSError as error:
        if error.errno is None:
            raise
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        _say(f"error: {explain(error)}")
        return 2


def _after_signal(stop: stopping.Stopped) -> int:
    """One line from the first process; the exit code of this one."""
    from mbvision.commands.run_folder import first_process

    if first_process():
        _say(str(stop))
        return stop.exit_code
    # Of processes that Lightning started itself, it kills the first one as soon as another ends with a code.
    started_outside = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & set(os.environ)
    return stop.exit_code if started_outside else 0


def _say(line: str) -> None:
    with suppress(OSError):  # where stderr is a file on the disk that is full
        if "tqdm" in sys.modules:  # or the line would stand behind a progress bar
            for bar in sorted(sys.modules["tqdm"].tqdm._instances, key=lambda bar: -abs(bar.pos)):
                bar.close()
        print(line, file=sys.stderr, flush=True)


def _drop_output() -> None:
    """Or Python's last flush of what is left fails once more."""
    with suppress(OSError, ValueError):  # ValueError: a standard output without a file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_working_directory() -> None:
    """Name the cause where a shell stays in a deleted directory: any path would be "No such file or directory"."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ConfigError("the working directory of this shell was deleted: change to one that exists") from error


def one_line(error: MBVisionError) -> str:
    """The message; of an error that a loader's worker raised, the part after the worker's traceback."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return text


def encoding_hint(text: str) -> str:
    """What to set where a name in a message may be misread: annotations are UTF-8, names of files are in the locale."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8" or (text.isascii() and "\\udc" not in text):
        return ""
    return f" (names of files are read as {encoding} here: set PYTHONUTF8=1 if they are UTF-8)"


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: ``mbvision NAME key=value ...``, by default with the arguments of this process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        sys.exit(run(_without_command, arguments))
    keep_freed_memory()  # here, and not in `run`: it cannot be taken back, and this process has nothing else to do
    sys.exit(run(import_module(f"mbvision.commands.{arguments[0]}").main, arguments[1:]))


def _without_command(arguments: Sequence[str]) -> None:
    """The list of the commands, the version, or what is wrong with a name."""
    from mbvision import __version__

    if arguments and arguments[0] == "--version":
        print(f"mbvision {__version__}")
    elif arguments and arguments[0] not in ("-h", "--help"):
        hint = nearest(arguments[0], list(COMMANDS)) or f"; choose {', '.join(COMMANDS)}"
        raise ConfigError(f"{arguments[0]}: there is no such command{hint}")
    else:
        width = max(map(len, COMMANDS))
        lines = [f"  {name.ljust(width)}  {what}" for name, what in COMMANDS.items()]
        print("\n".join(["usage: mbvision COMMAND key=value ...", *lines, "mbvision COMMAND --help shows its keys"]))
