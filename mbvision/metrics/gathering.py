"""What several processes counted, image by image, brought together."""

from typing import Any, TypeVar

from torch import distributed

Counted = TypeVar("Counted")


def first_copies(images: dict[int, Counted]) -> dict[int, Counted]:
    """The images of every process, each once (its copy in the lowest rank), sorted by place; every process calls it."""
    parts: list[Any] = [images]
    if distributed.is_available() and distributed.is_initialized():
        parts = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, images)
    merged: dict[int, Counted] = {}
    for part in reversed(parts):
        merged |= part
    return dict(sorted(merged.items()))
