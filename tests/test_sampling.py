"""Batches depend on seed, epoch and position alone; bad pictures are replaced, named and counted."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mbvision.commands import one_line
from mbvision.data.base import Reader
from mbvision.data.sampling import Draw, EpochSampler
from mbvision.engine.data_module import VisionData
from mbvision.errors import ConfigError, DataError, ImageError
from mbvision.structures import Batch, Geometry, Sample, Target


class Pictures(Reader):
    """Pictures whose id is their index; those in ``bad`` cannot be read."""

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        self.class_names = {"detection": ["thing"]}
        self.count, self.bad = count, bad

    def __len__(self) -> int:
        return self.count

    @property
    def truth(self) -> dict[str, object]:
        return {}

    def path(self, index: int) -> Path:
        return Path(str(index))

    def read(self, index: int) -> Sample:
        if index in self.bad:
            raise ImageError(f"picture_{index}.jpg is cut off: copy it anew")
        image = np.full((4, 4, 3), index, dtype=np.uint8)
        return Sample(image=image, target=Target(image_id=index, geometry=Geometry(original=(4, 4))))


def stamp(sample: Sample, seed: int) -> Sample:
    """A transform that writes the first number of its random stream into the picture."""
    first = np.random.default_rng(seed).integers(256, size=(4, 4, 3)).astype(np.uint8)
    return Sample(image=first, target=sample.target)


def make(count: int = 7, *, bad: tuple[int, ...] = (), workers: int = 0, **arguments: float | str) -> VisionData:
    reader = Pictures(count, bad)
    return VisionData(
        train_reader=reader,
        val_reader=reader,
        train_transform=stamp,
        val_transform=stamp,
        batch_size=2,
        workers=workers,
        **arguments,
    )


def epochs(data: VisionData, count: int = 2) -> list[list[Batch]]:
    loader = data.train_dataloader()
    found = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        found.append(list(loader))
    return found


def ids(batches: list[Batch]) -> list[int | str]:
    return [target.image_id for batch in batches for target in batch.targets]


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return ids(a) == ids(b) and all(torch.equal(x.images, y.images) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def plain() -> list[list[Batch]]:
    return epochs(make())


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # more than this machine has cores
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_batches_are_equal_for_any_number_of_workers_and_on_a_second_run(
    plain: list[list[Batch]], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    again = epochs(make(workers=workers))
    assert all(equal(a, b) for a, b in zip(plain, again, strict=True))


def test_epochs_and_seeds_differ(plain: list[list[Batch]]) -> None:
    assert ids(plain[0]) != ids(plain[1])
    assert sorted(ids(plain[0])) == sorted(ids(plain[1])) == list(range(7))
    assert ids(epochs(make(seed=1), 1)[0]) != ids(plain[0])


def test_no_two_samples_share_a_random_stream(plain: list[list[Batch]]) -> None:
    pictures = torch.cat([batch.images for epoch in plain for batch in epoch]).flatten(1)
    assert len(torch.unique(pictures, dim=0)) == len(pictures) == 14


def test_a_repeated_epoch_is_the_first_one_again(plain: list[list[Batch]]) -> None:
    first, second = epochs(make(repeat_epoch=True))
    assert equal(first, second) and equal(first, plain[0])


def test_a_loader_goes_on_in_the_middle_of_an_epoch(plain: list[list[Batch]]) -> None:
    data = make()
    loader = data.train_dataloader()
    loader.sampler.go_to(1, 4)
    loader.sampler.set_epoch(1)
    assert equal(list(loader), plain[1][2:])
    loader.sampler.set_epoch(2)
    assert len(list(loader)) == 4


@given(length=st.integers(1, 40), world=st.integers(1, 8))
def test_every_image_is_scored_once_and_every_rank_trains_as_long_as_the_others(length: int, world: int) -> None:
    def drawn(even: bool) -> Iterator[list[int]]:
        for rank in range(world):
            sampler = EpochSampler(length=length, rank=rank, world_size=world, even=even)
            positions = [draw.position for draw in sampler]
            assert len(sampler) == len(positions)
            yield positions

    scored = list(drawn(even=False))
    assert sorted(position for part in scored[:length] for position in part) == list(range(length))
    assert all(len(part) == 1 for part in scored[length:])  # a rank with nothing of its own repeats one
    parts = list(drawn(even=True))
    assert len({len(part) for part in parts}) == 1
    assert {position for part in parts for position in part} == set(range(length))


def test_a_bad_picture_is_replaced_by_the_next_good_one_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    dataset = make(bad=(2,), on_bad_item="skip").train_set
    assert dataset is not None
    order = dataset.order(0).tolist()
    place = order.index(2)
    with caplog.at_level(logging.WARNING):
        for epoch in (0, 1):
            seen = [dataset[Draw(epoch, position)].target.image_id for position in range(7)]
            if epoch == 0:
                assert seen == [*order[:place], order[(place + 1) % 7], *order[place + 1 :]]
            assert 2 not in seen
    assert [record.message for record in caplog.records] == ["skipped: picture_2.jpg is cut off: copy it anew"]
    assert int(dataset.bad.sum()) == 1


def test_a_bad_picture_found_by_a_worker_is_known_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    data = make(bad=(2,), workers=2, on_bad_item="skip")
    assert 2 not in ids(epochs(data, 1)[0])
    assert data.train_set is not None and data.train_set.bad.tolist() == [index == 2 for index in range(7)]


def test_too_many_bad_pictures_stop_with_one_line_that_names_the_last() -> None:
    dataset = make(bad=(1, 4), on_bad_item="skip", max_bad_fraction=0.2).train_set
    assert dataset is not None
    with pytest.raises(DataError, match=r"2 of 7 .*data.max_bad_fraction=0.2.*picture_\d.jpg is cut off") as caught:
        for position in range(7):
            dataset[Draw(0, position)]
    assert "\n" not in str(caught.value)


def test_evaluation_stops_at_the_first_bad_picture() -> None:
    with pytest.raises(ImageError, match="picture_3"):
        list(make(bad=(3,)).val_dataloader())


def test_the_error_of_a_worker_reaches_the_user_as_one_line() -> None:
    loader = make(bad=(1, 4), workers=1, on_bad_item="error").train_dataloader()
    with pytest.raises(ImageError) as caught:
        list(loader)
    remedy = "mend it or take it out of the split (python tools/check_data.py names all such)"
    assert one_line(caught.value) in [f"picture_{index}.jpg is cut off: copy it anew; {remedy}" for index in (1, 4)]


def test_a_set_without_pictures_and_loaders_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="no picture"):
        make(0)
    with pytest.raises(ConfigError, match=r"loader.workers=-1"):
        make(workers=-1)
