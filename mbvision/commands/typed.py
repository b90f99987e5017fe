"""Commands in messages as the user types them: ``mbvision train`` where the package is installed."""

import re
import sys
from pathlib import Path

_TOOL = re.compile(r"python tools/(\w+)\.py")


def as_typed(text: str) -> str:
    """The text with each ``python tools/NAME.py`` in the form in which this process was started."""
    program = Path(sys.argv[0])
    if program.stem == "mbvision":
        return _TOOL.sub(r"mbvision \1", text)
    if program.name == "__main__.py" and program.parent.name == "mbvision":
        return _TOOL.sub(r"python -m mbvision \1", text)
    beside = (Path(__file__).resolve().parent.parent.parent / "tools").is_dir()
    return text if beside else _TOOL.sub(r"mbvision \1", text)
