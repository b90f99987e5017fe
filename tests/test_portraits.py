"""The built-in faces: the same every time, other people in validation, and never over something else."""

import json
from pathlib import Path

import numpy as np
import pytest

from mbvision.data.celeba import celeba
from mbvision.data.portraits import make_portraits, portraits
from mbvision.data.portraits_drawing import ATTRIBUTES, draw_identity, draw_portrait
from mbvision.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces") / "portraits"
    make_portraits(root, train_people=5, val_people=3, pictures=4)
    return root


def test_the_official_reader_reads_them(root: Path) -> None:
    train, val = celeba(root=root, split="train"), celeba(root=root, split="val")
    assert len(train) == 20 and len(val) == 12 and train.class_names["attributes"] == ATTRIBUTES
    assert not set(train.class_names["embedding"]) & set(val.class_names["embedding"])
    assert val.truth["embedding"].same.sum() == 3 * 6 and len(val.truth["embedding"].pairs) == 66
    for index in range(0, 20, 5):
        assert train.read(index).image.shape == (96, 96, 3)


def test_a_set_is_the_same_every_time_and_a_split_whatever_the_other_holds(root: Path, tmp_path: Path) -> None:
    make_portraits(tmp_path / "again", train_people=2, val_people=3, pictures=4)
    one, again = celeba(root=root, split="val"), celeba(root=tmp_path / "again", split="val")
    np.testing.assert_array_equal(one.truth["attributes"].values, again.truth["attributes"].values)
    for index in range(0, 12, 3):
        np.testing.assert_array_equal(one.read(index).image, again.read(index).image)
    make_portraits(tmp_path / "other", train_people=1, val_people=1, pictures=1, seed=1)
    other = celeba(root=tmp_path / "other", split="val").read(0)
    assert not np.array_equal(other.image, one.read(0).image)


def test_people_of_training_and_validation_differ_also_where_their_numbers_agree() -> None:
    skins = [draw_identity(np.random.default_rng((0, split, 3))).skin for split in (0, 1)]
    assert not np.array_equal(*skins)


def test_lasting_attributes_are_those_of_the_person_and_the_others_change() -> None:
    who = draw_identity(np.random.default_rng(3))
    found = np.array([draw_portrait(who, np.random.default_rng((3, n))).attributes for n in range(1, 30)])
    lasting = [ATTRIBUTES.index(name) for name in ("Beard", "Dark_Hair", "Long_Hair", "Round_Face")]
    assert (found[:, lasting] == [who.beard, who.dark_hair, who.long_hair, who.round_face]).all()
    changing = [ATTRIBUTES.index(name) for name in ("Earrings", "Glasses", "Hat", "Smiling")]
    assert found[:, changing].any(axis=0).all() and not found[:, changing].all(axis=0).any()


def test_an_attribute_shows() -> None:
    """The same picture with and without a beard differs where a beard is, and nowhere above the eyes."""
    from dataclasses import replace

    who = draw_identity(np.random.default_rng(5))
    rng = [np.random.default_rng(8) for _ in range(2)]
    with_beard, without = (
        draw_portrait(replace(who, beard=b), r).image for b, r in zip((True, False), rng, strict=True)
    )
    changed = np.abs(with_beard.astype(int) - without).max(axis=2) > 40
    assert changed[48:].mean() > 0.03 and not changed[:30].any()


def test_other_content_is_never_touched(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else than the built-in faces"):
        make_portraits(tmp_path)
    with pytest.raises(DataError, match="holds other faces than these"):
        portraits(root=root, split="val")
    before = json.loads((root / "portraits.json").read_text())
    make_portraits(root, train_people=5, val_people=3, pictures=4)
    assert json.loads((root / "portraits.json").read_text()) == before
    (root / "portraits.json").write_text("{")
    with pytest.raises(DataError, match=r"portraits\.json is damaged"):
        make_portraits(root, train_people=5, val_people=3, pictures=4)
    (root / "portraits.json").write_text(json.dumps(before))
