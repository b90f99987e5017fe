"""Readers and transforms as Lightning's loaders, which resume in the middle of an epoch."""

import atexit
import gc
import multiprocessing
import os
import re
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import cv2
import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader

from mbvision import stopping
from mbvision.data.base import Reader
from mbvision.data.collate import collate
from mbvision.data.sampling import BatchTransform, DrawDataset, EpochSampler, Transform
from mbvision.engine.labels import check_box_labels
from mbvision.errors import ConfigError, TrainingError
from mbvision.structures import Batch, Sample


def _start_worker(worker: int) -> None:
    """One thread a worker: parallelism comes from the workers. Signals are for the process that started it."""
    stopping.ignore()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    info = torch.utils.data.get_worker_info()
    assert info is not None and isinstance(info.dataset, DrawDataset)
    info.dataset.note_pictures_in(worker)


@atexit.register
def end_workers() -> None:
    """At its end Python asks the workers that are left to stop, and waits: they ignore that signal too."""
    workers = [child for child in multiprocessing.active_children() if child.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would take this for an accident
    for worker in workers:
        worker.kill()


def _signal_that_ended(processes: Collection[int], told: str) -> str:
    """The name of the signal that ended a child process; nothing where none did.

    torch's message tells it in some of the cases, in words; where it does not, the loader still holds the process.
    """
    words = re.search(r"is killed by signal: ([^.]+)\.", told)
    named = [one.name for one in signal.Signals if words and signal.strsignal(one) == words[1]]
    if named:
        return named[0]
    children = [thing for thing in gc.get_objects() if issubclass(type(thing), multiprocessing.process.BaseProcess)]
    codes = [child.exitcode or 0 for child in children if child.pid in processes]
    return next((signal.Signals(-code).name for code in codes if code < 0), "")


class ResumableLoader(DataLoader[Sample]):
    """A loader that starts at its sampler's place in the epoch.

    Lightning asks a loader for its state to see whether it can resume. The state itself travels with `VisionData`:
    where the schedule's length is asked for, Lightning hands it over only after it has made the loader's iterator.
    """

    def __init__(self, *, sampler: EpochSampler, **arguments: Any) -> None:
        super().__init__(sampler=sampler, **arguments)

    def state_dict(self) -> dict[str, int]:
        """Nothing: see `VisionData.state_dict`."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing: see `VisionData.load_state_dict`."""


class VisionData(L.LightningDataModule):
    """Training and validation loaders over two readers; the same seed gives the same batches for any number of workers.

    ``train_mix`` changes the samples of a training batch together. With ``repeat_epoch`` every epoch has the order and
    the augmentation of the first one, and so has validation.
    """

    def __init__(
        self,
        *,
        train_reader: Reader | None,
        val_reader: Reader,
        train_transform: Transform | None,
        val_transform: Transform,
        batch_size: int,
        workers: int,
        seed: int = 0,
        on_bad_item: Literal["skip", "error"] = "skip",
        max_bad_fraction: float = 0.01,
        repeat_epoch: bool = False,
        timeout_s: float = 600.0,
        train_mix: BatchTransform | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or workers < 0:
            raise ConfigError(f"loader.batch_size={batch_size} must be at least 1, loader.workers={workers} at least 0")
        self.train_reader, self.val_reader = train_reader, val_reader
        self.batch_size, self.workers, self.timeout_s = batch_size, workers, timeout_s
        self.repeat_epoch = repeat_epoch
        self._resumed_place = (0, 0)
        self.train_set = None
        if train_reader is not None and train_transform is not None:
            self.train_set = DrawDataset(
                reader=train_reader,
                transform=train_transform,
                seed=seed,
                shuffle=True,
                on_bad_item=on_bad_item,
                max_bad_fraction=max_bad_fraction,
                mix=train_mix,
            )
        # To learn a batch by heart is to be scored on it: the first of the same order.
        self.val_set = DrawDataset(reader=val_reader, transform=val_transform, seed=seed, shuffle=repeat_epoch)

    @property
    def sets(self) -> dict[str, DrawDataset | None]:
        """The data sets of both loaders."""
        return {"train": self.train_set, "val": self.val_set}

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled; the last batch may be smaller. The first loader after a restart starts where the run stopped."""
        if self.train_set is None:
            raise ConfigError("there is no training split; set data.train_split")
        loader = self._loader(self.train_set, even=True)
        assert isinstance(loader.sampler, EpochSampler)
        loader.sampler.go_to(*self._resumed_place)
        self._resumed_place = (0, 0)
        return loader

    def val_dataloader(self) -> ResumableLoader:
        """Every image once over all processes."""
        return self._loader(self.val_set, even=False)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Refuse labels of boxes that are no class, while the batch is still on the processor."""
        assert self.trainer is not None
        if self.trainer.training and self.train_reader is not None:
            check_box_labels(batch.targets, len(self.train_reader.class_names.get("detection", ())))
        return batch

    def state_dict(self) -> dict[str, int]:
        """The epoch that training is in and the samples taken from it by each process."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        taken, length = loop.epoch_loop.batch_progress.current.ready, self.trainer.num_training_batches
        epoch = loop.epoch_progress.current.ready - 1
        if taken >= length:  # a finished epoch is the next one's start
            epoch, taken = epoch + 1, 0
        return {"epoch": epoch, "start": taken * self.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Called before the loaders are made."""
        self._resumed_place = (state_dict["epoch"], state_dict["start"])

    @contextmanager
    def worker_errors(self) -> Iterator[None]:
        """Inside, a worker that dies or hangs is a `TrainingError` with its signal and the pictures in its hands."""
        try:
            yield
        except RuntimeError as error:
            if not re.match(r"DataLoader (worker \(pid|timed out)", str(error)):
                raise
            raise self._worker_error(str(error)) from error

    def _worker_error(self, text: str) -> TrainingError:
        named = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", text)
        pids = [int(pid) for pid in named[1].split(",")] if named else []
        places = [place for dataset in self.sets.values() if dataset for place in dataset.pictures_in_hand(pids)]
        name = _signal_that_ended(pids, text)
        who = f"process {pids[0]}, which reads pictures, was killed by {name}" if name else text
        return TrainingError(
            f"{who.splitlines()[0]}; in its hands: {', '.join(places) or 'no picture'}: check the memory, /dev/shm"
            " included, or set loader.workers=0"
        )

    def _loader(self, dataset: DrawDataset, *, even: bool) -> ResumableLoader:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        workers = min(self.workers, os.cpu_count() or 1)
        dataset.expect_workers(workers)
        return ResumableLoader(
            sampler=EpochSampler(
                length=len(dataset), rank=rank, world_size=world, even=even, repeat=self.repeat_epoch or not even
            ),
            dataset=dataset,
            batch_size=self.batch_size,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            timeout=self.timeout_s if workers else 0,
            generator=torch.Generator().manual_seed(0),  # own generator: making an iterator draws from it
            pin_memory=torch.cuda.is_available(),
        )
