"""Which picture comes when: a function of (seed, epoch, position) alone; workers, ranks and restarts do not matter."""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from mbvision.data.base import Reader
from mbvision.errors import ConfigError, DataError
from mbvision.structures import Sample

logger = logging.getLogger(__name__)
Transform = Callable[[Sample, int], Sample]
BatchTransform = Callable[[Sequence[Sample], int], list[Sample]]


NOTHING = -1
"""In the place of an index: none."""


class Draw(NamedTuple):
    """The ``position``-th sample of an epoch."""

    epoch: int
    position: int


class EpochSampler(Sampler[Draw]):
    """The positions of one process (``rank`` of ``world_size``) in one epoch, without the ``shown`` first of a restart.

    The processes take positions by turns, so that what they have taken together is always the beginning of the epoch,
    and any number of them can take the rest.

    With ``even`` every rank gets as many positions as the others (training; the tail wraps around), else each position
    comes once (evaluation); where there are more ranks than positions, the idle ones repeat one, because Lightning
    leaves the whole evaluation out on a rank without a batch. With ``repeat`` all epochs are the first one.
    """

    def __init__(
        self, *, length: int, rank: int = 0, world_size: int = 1, even: bool = True, repeat: bool = False
    ) -> None:
        self.length, self.rank, self.world_size, self.even, self.repeat = length, rank, world_size, even, repeat
        self.epoch = 0
        self.shown = 0

    def go_to(self, epoch: int, shown: int) -> None:
        """The next pass is the rest of ``epoch``, without its first ``shown`` samples."""
        self.epoch, self.shown = epoch, shown

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch; a new one starts at its beginning."""
        if epoch != self.epoch:
            self.go_to(epoch, 0)

    def __len__(self) -> int:
        """The positions of a whole epoch on this rank, wherever it starts."""
        if self.even:
            return -(-self.length // self.world_size)
        return max(len(range(self.rank, self.length, self.world_size)), 1)

    def __iter__(self) -> Iterator[Draw]:
        epoch = 0 if self.repeat else self.epoch
        count = -(-(self.length - self.shown) // self.world_size) if self.even else len(self)
        for step in range(count):
            yield Draw(epoch, (self.shown + self.rank + step * self.world_size) % self.length)


class DrawDataset(Dataset[Sample]):
    """The samples of a reader, transformed, by `Draw`; ``mix`` then changes those of a batch together.

    ``on_bad_item="skip"`` replaces a sample that cannot be read by the next good one of the epoch's order, names it
    once in the log, and stops when more than ``max_bad_fraction`` of the data set was bad; ``"error"`` stops at the
    first.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        transform: Transform,
        seed: int,
        shuffle: bool,
        on_bad_item: Literal["skip", "error"] = "error",
        max_bad_fraction: float = 0.01,
        mix: BatchTransform | None = None,
    ) -> None:
        if len(reader) == 0:
            raise DataError("the data set holds no picture: check data.root and the split")
        if on_bad_item not in ("skip", "error"):
            raise ConfigError(f"data.on_bad_item={on_bad_item}: choose skip or error")
        self.reader, self.transform, self.seed, self.shuffle = reader, transform, seed, shuffle
        self.on_bad_item, self.max_bad_fraction, self.mix = on_bad_item, max_bad_fraction, mix
        self.bad = torch.zeros(len(reader), dtype=torch.bool).share_memory_()  # one mark for all workers
        self._order: tuple[int, np.ndarray] | None = None
        self._hands = torch.full((1, 2), NOTHING)  # of each worker: its process, and the index it is at
        self._hand = 0

    def __len__(self) -> int:
        return len(self.reader)

    def order(self, epoch: int) -> np.ndarray:
        """The order of the data set's indices in this epoch."""
        if not self.shuffle:
            return np.arange(len(self))
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self)))
        return self._order[1]

    def __getitem__(self, draw: Draw) -> Sample:
        order = self.order(draw.epoch)
        for step in range(len(self)):
            index = int(order[(draw.position + step) % len(self)])
            if self.bad[index]:
                continue
            self._hands[self._hand, 1] = index
            try:
                sample = self.reader.read(index)
            except DataError as error:
                self._refuse(index, error)
                continue
            sample = self.transform(sample, self._seed(draw))
            self._hands[self._hand, 1] = NOTHING
            return sample
        raise DataError("no sample of the data set can be read")

    def __getitems__(self, draws: Sequence[Draw]) -> list[Sample]:
        """The samples of a batch, which loaders ask for at once; the first draw's seed serves for the mixing too."""
        samples = [self[draw] for draw in draws]
        return self.mix(samples, self._seed(draws[0])) if self.mix else samples

    def expect_workers(self, count: int) -> None:
        """Make room where ``count`` worker processes note what they are at."""
        self._hands = torch.full((max(count, 1), 2), NOTHING).share_memory_()

    def note_pictures_in(self, worker: int) -> None:
        """From now on this process is that worker."""
        self._hand = worker
        self._hands[worker, 0] = os.getpid()

    def pictures_in_hand(self, processes: Collection[int]) -> list[str]:
        """The images that these worker processes (all, if none is named) were at last; ids where they are known."""
        hands = self._hands.tolist()
        places = [place for process, place in hands if place != NOTHING and (not processes or process in processes)]
        truth = next(iter(self.reader.truth.values()), None)
        ids = truth.image_ids if truth is not None and len(truth) == len(self) else None
        return [f"image {ids[place]}" if ids else f"sample {place}" for place in places]

    def _seed(self, draw: Draw) -> int:
        state = np.random.SeedSequence((self.seed, draw.epoch, draw.position)).generate_state(1, np.uint64)
        return int(state[0])

    def _refuse(self, index: int, error: DataError) -> None:
        if self.on_bad_item == "error":
            remedy = "mend it or take it out of the split (python tools/check_data.py names all such)"
            raise type(error)(f"{error}; {remedy}") from error
        self.bad[index] = True
        logger.warning("skipped: %s", error)
        count = int(self.bad.sum())
        if count > max(1.0, self.max_bad_fraction * len(self)):
            raise DataError(
                f"{count} of {len(self)} samples cannot be read, more than"
                f" data.max_bad_fraction={self.max_bad_fraction} allows; the last: {error}"
            ) from error
