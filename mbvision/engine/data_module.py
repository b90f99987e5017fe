"""Readers and transforms as Lightning's loaders, which resume in the middle of an epoch."""

import atexit
import gc
import logging
import math
import multiprocessing
import os
import re
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import cv2
import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader

from mbvision import stopping
from mbvision.data.base import Reader
from mbvision.data.collate import collate
from mbvision.data.sampling import BatchTransform, DrawDataset, EpochSampler, Transform
from mbvision.engine.epoch_plan import EpochPlan, Place, changes, limited_batches, order_digest, place_of
from mbvision.engine.labels import check_box_labels
from mbvision.errors import ConfigError, TrainingError
from mbvision.structures import Batch, Sample

logger = logging.getLogger(__name__)


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
        """Nothing: see `VisionData.continue_epoch`."""


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
        self._start = Place()
        self._resumes = False
        self.total_steps: int | None = None
        """Of a run that is resumed: the steps that are done and those that remain."""
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
        if self._resumes:
            loader.sampler.go_to(self._start.epoch, self._start.shown)
            self._resumes = False
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

    @property
    def plan(self) -> EpochPlan:
        """How this run takes the samples of an epoch."""
        assert self.trainer is not None and self.train_set is not None
        return EpochPlan(
            length=len(self.train_set),
            order=self._order,
            batch_size=self.batch_size,
            world_size=self.trainer.world_size,
            limit=self.trainer.limit_train_batches,
        )

    @cached_property
    def _order(self) -> str:
        assert self.train_set is not None
        return order_digest(self.train_set, repeat=self.repeat_epoch)

    def state_dict(self) -> dict[str, Any]:
        """The epoch that training is in and the samples that are taken from it."""
        assert self.trainer is not None
        loop, plan = self.trainer.fit_loop, self.plan
        taken, epoch = loop.epoch_loop.batch_progress.current.ready, loop.epoch_progress.current.ready - 1
        if taken >= self.trainer.num_training_batches:  # a finished epoch is the next one's start
            return plan.state(epoch=epoch + 1, shown=0, finished=True)
        start = self._start if self._start.epoch == epoch and not self._start.finished else Place()
        return plan.state(epoch=epoch, shown=start.shown + (taken - start.taken) * plan.together, finished=False)

    def continue_epoch(self, checkpoint: dict[str, Any]) -> None:
        """Start where a checkpoint stopped, and count the batches of its epoch as this run's, for Lightning to read.

        Lightning compares that count with the batches of an epoch to find its end, where it validates. What cannot be
        exactly as it was is reported.
        """
        assert self.trainer is not None
        saved, progress = checkpoint[type(self).__qualname__], checkpoint["loops"]["fit_loop"]
        counts, plan, accumulated = (
            progress["epoch_loop.batch_progress"],
            self.plan,
            self.trainer.accumulate_grad_batches,
        )
        place = self._start = place_of(saved, plan, counts["current"]["ready"])
        self._resumes = True
        moved = place.taken - counts["current"]["ready"]
        for count in counts["current"]:
            counts["current"][count] += moved
        if place.taken % accumulated and not place.finished:
            progress["epoch_loop.state_dict"]["_batches_that_stepped"] += 1  # Lightning would take it for half a step
        begun = place.epoch + (0 if place.finished else 1)
        epochs, steps = self.trainer.max_epochs or 0, math.ceil(plan.batches / accumulated)
        rest = 0 if place.finished else steps - place.taken // accumulated
        total, most = checkpoint["global_step"] + rest + max(epochs - begun, 0) * steps, self.trainer.max_steps
        total = most if epochs == -1 else total if most == -1 else min(total, most)
        self.total_steps = total
        if (found := changes(saved, plan, place)) and self.trainer.is_global_zero:
            logger.warning("%s; optimizer.lr stays, the schedule ends at step %d", "; ".join(found), total)

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
        loader = ResumableLoader(
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
        if trainer:
            limit = trainer.limit_train_batches if even else trainer.limit_val_batches
            name = "overfit" if self.repeat_epoch else "limit_train" if even else "limit_val"
            limited_batches(len(loader), limit, f"trainer.{name}_batches")
        return loader
