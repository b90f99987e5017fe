"""Memory that runs out is told with what takes it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mbvision.errors import TrainingError


@contextmanager
def told_when_memory_runs_out(*, batch_size: int, size: object, then: str = "") -> Iterator[None]:
    """Inside, running out of a GPU's memory or of the machine's is a `TrainingError`; ``then`` says how to go on."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On the processor torch raises a plain RuntimeError: "DefaultCPUAllocator: can't allocate memory".
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"out of memory with loader.batch_size={batch_size} and input_size={size}: lower one of them{then}"
        ) from error
