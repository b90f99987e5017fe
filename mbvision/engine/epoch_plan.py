"""The batches of an epoch, and how a resumed run continues one: with the samples that are left, in its own batches."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbvision.data.sampling import DrawDataset
from mbvision.errors import CheckpointError, ConfigError

SAVED: Mapping[str, type] = {
    "epoch": int,
    "shown": int,
    "finished": bool,
    "batch_size": int,
    "world_size": int,
    "length": int,
    "order": str,
}
"""What a checkpoint says of the epoch in progress, see `EpochPlan.state`."""


def limited_batches(batches: int, limit: int | float, key: str) -> int:
    """How many of an epoch's batches Lightning takes: at most ``limit``, or that share where it is a float.

    Raises `ConfigError` naming ``key`` for a share of less than one batch, where Lightning raises an error of its own.
    """
    number = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if number == 0 and limit > 0 and batches:
        least = math.ceil(1000 / batches) / 1000
        raise ConfigError(
            f"{key}={limit} of {batches} batches is less than one: give at least {least:g}, or a number of batches"
        )
    return number


def order_digest(dataset: DrawDataset, *, repeat: bool) -> str:
    """What the order of a data set's samples depends on: they themselves, as far as they have ids, and the seed."""
    ids = [list(truth.image_ids) for truth in dataset.reader.truth.values()]
    return hashlib.sha256(json.dumps([dataset.seed, repeat, len(dataset), ids]).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPlan:
    """How ``length`` samples in an ``order`` are taken: ``world_size`` processes with ``batch_size`` each at a time.

    ``limit`` is ``trainer.limit_train_batches``.
    """

    length: int
    order: str
    batch_size: int
    world_size: int
    limit: int | float

    @property
    def together(self) -> int:
        """The samples of one batch of each process."""
        return self.batch_size * self.world_size

    @property
    def batches(self) -> int:
        """The batches of a whole epoch, of each process."""
        return limited_batches(-(-self.length // self.together), self.limit, "trainer.limit_train_batches")

    def state(self, *, epoch: int, shown: int, finished: bool) -> dict[str, Any]:
        """Plain data for a checkpoint: how many samples of the epoch all processes have taken, and in what way."""
        return {
            "epoch": epoch,
            "shown": shown,
            "finished": finished,
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "length": self.length,
            "order": self.order,
        }

    def left(self, shown: int, taken: int) -> int:
        """The batches that remain of an epoch after ``shown`` samples in ``taken`` batches; at least one."""
        whole = -(-self.length // self.together)
        if isinstance(self.limit, int) and self.limit < whole:  # so many batches, whatever is in them
            return min(max(self.batches - taken, 1), -(-(self.length - shown) // self.together))
        end = min(self.length, self.batches * self.together)
        return max(-(-(end - shown) // self.together), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run starts: ``shown`` samples of the epoch are taken, which count as ``taken`` batches of its plan.

    After an epoch that is ``finished``, ``taken`` is of that one, the rest of the next.
    """

    epoch: int = 0
    shown: int = 0
    taken: int = 0
    finished: bool = False


def place_of(saved: Mapping[str, Any], plan: EpochPlan, taken: int) -> Place:
    """Where a run with ``plan`` continues the epoch of a checkpoint, in which ``taken`` batches were done.

    The samples that were not shown yet are left, whatever the batches were. Where the data set or its order is another
    one, nobody can say which those are: the epoch starts again.
    """
    epoch, shown = saved["epoch"], saved["shown"]
    if saved["finished"]:
        return Place(epoch=epoch, taken=plan.batches, finished=True)
    if saved["order"] != plan.order:
        return Place(epoch=epoch)
    return Place(epoch=epoch, shown=shown, taken=plan.batches - plan.left(shown, taken))


def changes(saved: Mapping[str, Any], plan: EpochPlan, place: Place) -> list[str]:
    """What is not as it was when the checkpoint was written, with numbers; nothing for a run that continues exactly."""
    found = []
    if saved["order"] != plan.order:
        sizes = (saved["length"], plan.length)
        then = "others, or in another order" if sizes[0] == sizes[1] else f"{sizes[0]} samples then, {sizes[1]} now"
        again = f"epoch {place.epoch}, of which {saved['shown']} samples were shown, starts again"
        found.append(
            f"the training set is not that of the checkpoint ({then})" + ("" if place.finished else f": {again}")
        )
    before, now = (saved["batch_size"], saved["world_size"]), (plan.batch_size, plan.world_size)
    if before != now:
        left = f"left are {plan.length - place.shown} in {plan.batches - place.taken} batches"
        shown = f"{place.shown} of {plan.length} samples of epoch {place.epoch} were shown, {left}"
        found.append(
            f"batches of {_batches(*now)} (they were {_batches(*before)}): "
            + (f"from epoch {place.epoch} on" if place.finished else shown)
        )
    return found


def _batches(batch_size: int, processes: int) -> str:
    return f"{batch_size} on {processes} process{'es' if processes > 1 else ''}"


def check_saved(saved: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` unless a checkpoint says where in an epoch it was written."""
    if wrong := [key for key, kind in SAVED.items() if type(saved.get(key)) is not kind]:
        raise CheckpointError(
            f"it does not say where in an epoch it was written (no {wrong[0]}): it is of an earlier version; to start"
            " from its weights: pretrained="
        )
