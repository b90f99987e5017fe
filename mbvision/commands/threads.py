"""How many threads a command computes on."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def computing_on(threads: int | None) -> Iterator[None]:
    """Limit torch, OpenCV and the runtimes opened inside to a number of threads; None changes nothing."""
    if threads is None:
        yield
        return
    import cv2  # slow to import, as torch is
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads if threads > 1 else 0)  # 0: none beside the caller's own
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
