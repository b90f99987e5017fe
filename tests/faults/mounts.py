"""File systems that only this process and those it starts see: small ones, and read-only ones."""

import ctypes
import os
from pathlib import Path

# Linux, <sched.h> and <sys/mount.h>.
CLONE_NEWNS = 0x00020000
MS_RDONLY = 1
MS_REC = 0x4000
MS_PRIVATE = 1 << 18


def own_mounts() -> None:
    """From now on this process's mounts are its own. Raises OSError where that is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS))
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def mount_memory(place: Path, size: int, *, read_only: bool = False) -> None:
    """Put an empty file system of ``size`` bytes, in memory, over a folder."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = MS_RDONLY if read_only else 0
    _check(libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, f"size={size}".encode()))


def permitted() -> bool:
    """Whether this machine lets us mount, tried in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            own_mounts()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
