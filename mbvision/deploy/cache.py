"""Where the files that are made from checkpoints are kept: in the user's cache, or wherever there is room for it."""

import os
import stat
import tempfile
from pathlib import Path

from mbvision.errors import ConfigError

REMEDY = "set the environment variable MBVISION_CACHE to a folder that can be written"


def cache_folder() -> Path:
    """``MBVISION_CACHE``, else ``mbvision`` in the user's cache folder, else a folder for temporary files.

    Containers run under user numbers that have no home, and with homes that cannot be written. Raises `ConfigError`
    where no folder can be written at all.
    """
    if given := os.environ.get("MBVISION_CACHE"):
        return Path(given)
    try:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mbvision"
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return _temporary()
    return usual if usual.is_dir() or _can_be_made(usual) else _temporary()


def _can_be_made(folder: Path) -> bool:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _temporary() -> Path:
    """A folder that is this user's alone: its files are run."""
    try:
        folder = Path(tempfile.gettempdir()) / f"mbvision-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise ConfigError(f"no folder here can keep exported files ({error.strerror}): {REMEDY}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise ConfigError(f"{folder} is not this user's alone: {REMEDY}")
    return folder
