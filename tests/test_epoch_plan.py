"""The rest of an epoch is the samples that were not shown, whatever the batch size and the number of processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbvision.data.sampling import EpochSampler
from mbvision.engine.epoch_plan import EpochPlan, Place, changes, check_saved, limited_batches, place_of
from mbvision.errors import CheckpointError, ConfigError


def plan(length: int = 24, batch_size: int = 2, world_size: int = 1, limit: float = 1.0, order: str = "a") -> EpochPlan:
    return EpochPlan(length=length, order=order, batch_size=batch_size, world_size=world_size, limit=limit)


def taken_by(now: EpochPlan, place: Place, batches: int) -> list[int]:
    """The positions that all processes take in so many batches from a place."""
    found = []
    for rank in range(now.world_size):
        sampler = EpochSampler(length=now.length, rank=rank, world_size=now.world_size)
        sampler.go_to(place.epoch, place.shown)
        found += [draw.position for draw in sampler][: batches * now.batch_size]
    return found


parts = st.tuples(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2]), st.integers(1, 5))


@given(length=st.integers(1, 60), runs=st.lists(parts, min_size=1, max_size=6))
def test_every_sample_of_an_epoch_is_shown_once_however_often_the_run_is_resumed(
    length: int, runs: list[tuple[int, int, int]]
) -> None:
    """Runs of some batches each, then one to the end; only where processes share an odd sample, one is shown again."""
    saved = plan(length).state(epoch=3, shown=0, finished=False)
    seen: list[int] = []
    taken = 0
    for batch_size, world_size, number in [*runs, (2, 1, length)]:
        now = plan(length, batch_size, world_size)
        place = place_of(saved, now, taken)
        left = now.batches - place.taken
        assert left >= 1 and place.epoch == 3
        number = min(number, left)
        seen += taken_by(now, place, number)
        shown, taken = place.shown + number * now.together, place.taken + number
        if taken == now.batches:
            break
        saved = now.state(epoch=3, shown=shown, finished=False)
        assert place_of(saved, now, taken) == Place(epoch=3, shown=shown, taken=taken)  # the same keys: exactly on
    assert set(seen) == set(range(length))
    assert len(seen) - length < now.world_size


@pytest.mark.parametrize(
    ("limit", "batch_size", "left"),
    [(1.0, 4, 4), (0.5, 4, 1), (10, 2, 6), (10, 1, 6), (10, 8, 2), (5, 2, 1)],
)
def test_limits_of_an_epoch_hold_in_the_batches_of_the_resumed_run(limit: float, batch_size: int, left: int) -> None:
    saved = plan(limit=limit).state(epoch=0, shown=8, finished=False)  # four batches of two
    now = plan(batch_size=batch_size, limit=limit)
    assert now.batches - place_of(saved, now, 4).taken == left


def test_an_epoch_of_another_data_set_or_order_starts_again_and_numbers_are_reported() -> None:
    saved = plan().state(epoch=2, shown=8, finished=False)
    now = plan(30, order="b")
    place = place_of(saved, now, 4)
    assert place == Place(epoch=2)
    assert changes(saved, now, place) == [
        "the training set is not that of the checkpoint (24 samples then, 30 now): epoch 2, of which 8 samples were"
        " shown, starts again"
    ]
    assert changes(saved, plan(order="b"), place)[0].startswith(
        "the training set is not that of the checkpoint (others, or in another order): epoch 2"
    )
    ended = plan().state(epoch=3, shown=0, finished=True)
    assert place_of(ended, now, 12) == Place(epoch=3, taken=15, finished=True)
    assert not changes(saved, plan(), place_of(saved, plan(), 4))


def test_shares_of_less_than_a_batch_are_refused_with_the_least_share() -> None:
    assert (limited_batches(7, 3, "k"), limited_batches(7, 1.0, "k"), limited_batches(7, 0.0, "k")) == (3, 7, 0)
    with pytest.raises(ConfigError, match=r"k=0.01 of 7 batches is less than one: give at least 0.143, or a number"):
        limited_batches(7, 0.01, "k")
    assert limited_batches(7, 0.143, "k") == 1


def test_a_checkpoint_without_a_place_in_its_epoch_is_refused() -> None:
    check_saved(plan().state(epoch=0, shown=0, finished=False))
    with pytest.raises(CheckpointError, match=r"no shown\).*pretrained="):
        check_saved({"epoch": 0, "start": 2})
