"""Folders of identities, LFW's list of pairs, and the pairs that are drawn where there is no list."""

import logging
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mbvision.data.faces import pairs_of
from mbvision.data.identity_folder import identity_folder, read_pairs
from mbvision.errors import AnnotationError, DataError
from tests.face_sets import write_identities

PAIRS = "2\t1\nAda\t1\t3\nAda\t2\tBen\t1\nBen\t1\t2\nBen\t2\tCleo\t1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_identities(tmp_path / "val", {"Ada": 3, "Ben": 2, "Cleo": 1, "Dora": 2})
    (tmp_path / "val" / "empty").mkdir()
    (tmp_path / "val" / "notes.txt").write_text("no identity")
    (tmp_path / "pairs.txt").write_text(PAIRS)
    return tmp_path


def test_every_folder_with_pictures_is_an_identity(root: Path) -> None:
    reader = identity_folder(root=root, split="val")
    assert reader.class_names == {"embedding": ("Ada", "Ben", "Cleo", "Dora")} and len(reader) == 8
    known = reader.truth["embedding"]
    assert known.identities.tolist() == [0, 0, 0, 1, 1, 2, 3, 3] and len(known.pairs) == 28
    assert known.same.sum() == 3 + 1 + 0 + 1 and not known.folds.any()
    sample = reader.read(4)
    assert sample.target.image_id == "Ben/Ben_0002.jpg" and sample.target.identity == 1


def test_lfws_pairs_are_compared_and_no_others(root: Path) -> None:
    reader = identity_folder(root=root, split="val", pairs="pairs.txt")
    known = reader.truth["embedding"]
    named = [tuple(known.image_ids[place] for place in pair) for pair in known.pairs.tolist()]
    assert named == [
        ("Ada/Ada_0001.jpg", "Ada/Ada_0003.jpg"),
        ("Ada/Ada_0002.jpg", "Ben/Ben_0001.jpg"),
        ("Ben/Ben_0001.jpg", "Ben/Ben_0002.jpg"),
        ("Ben/Ben_0002.jpg", "Cleo/Cleo_0001.jpg"),
    ]
    assert known.same.tolist() == [True, False, True, False] and known.folds.tolist() == [0, 0, 1, 1]
    assert len(reader) == 6 and known.names == ("Ada", "Ben", "Cleo")
    assert reader.read(5).target.image_id == "Cleo/Cleo_0001.jpg"


def test_pairs_without_folds_are_one_fold(root: Path) -> None:
    path = root / "dev.txt"
    path.write_text("2\nAda 1 2\nBen 1 2\nAda 1 Ben 2\nDora 1 Ada 3\n")
    pairs = read_pairs(path)
    assert [pair.fold for pair in pairs] == [0, 0, 0, 0] and pairs[3].second == ("Ada", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"pairs\.txt:1: expected the number of folds"),
        ("ten\t300\n", r"pairs\.txt:1: expected the number of folds"),
        (
            PAIRS.replace("2\t1\n", "3\t1\n", 1),
            r"pairs\.txt:1: 3 folds of 1 pairs of each kind are 6 lines, but 4 follow",
        ),
        (PAIRS.replace("Ada\t1\t3", "Ada\t1"), r"pairs\.txt:2: 'Ada\\t1' is neither"),
        (PAIRS.replace("Ada\t2\tBen\t1", "Ada\t2\tAda\t1"), r"pairs\.txt:3: .* is neither"),
        (PAIRS.replace("Cleo\t1", "Cleo\t4"), r"pairs\.txt:5: there is no picture .*Cleo_0004"),
    ],
)
def test_a_wrong_line_of_pairs_is_named(root: Path, text: str, message: str) -> None:
    (root / "pairs.txt").write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        identity_folder(root=root, split="val", pairs="pairs.txt")
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="train: there is no such folder"):
        identity_folder(root=root, split="train")
    with pytest.raises(DataError, match=r"none\.txt: there is no such file of pairs"):
        identity_folder(root=root, split="val", pairs="none.txt")
    (root / "train").mkdir()
    with pytest.raises(DataError, match="no picture in a folder of its own identity"):
        identity_folder(root=root, split="train")


def test_few_pictures_give_all_their_pairs() -> None:
    identities = np.array([0, 1, 0, 2])
    pairs, same = pairs_of(identities)
    assert list(map(tuple, pairs.tolist())) == list(combinations(range(4), 2))
    assert same.tolist() == [identities[a] == identities[b] for a, b in combinations(range(4), 2)]


def test_of_many_pairs_half_of_each_kind_are_drawn_the_same_every_time() -> None:
    identities = np.random.default_rng(1).integers(0, 9, 90)
    pairs, same = pairs_of(identities, most=400)
    again, _ = pairs_of(identities, most=400)
    np.testing.assert_array_equal(pairs, again)
    assert len(pairs) == 400 and same.sum() == 200 and len(np.unique(pairs, axis=0)) == 400
    assert (pairs[:, 0] < pairs[:, 1]).all()
    np.testing.assert_array_equal(same, identities[pairs[:, 0]] == identities[pairs[:, 1]])


def test_where_few_pairs_are_of_one_identity_all_of_them_are_taken() -> None:
    identities = np.concatenate([np.arange(40), np.arange(5)])
    pairs, same = pairs_of(identities, most=100)
    assert [tuple(pair) for pair in pairs[same].tolist()] == [(n, 40 + n) for n in range(5)] and (~same).sum() == 50


def test_folders_inside_an_identitys_folder_are_read_and_no_hidden_folder_is_a_person(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_identities(root / "val", {".ipynb_checkpoints": 1})
    (root / "val" / "Cleo" / "2019").mkdir()
    (root / "val" / "Ben" / "Ben_0002.jpg").rename(root / "val" / "Cleo" / "2019" / "Cleo_0002.jpg")
    (root / "val" / "loose.jpg").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        reader = identity_folder(root=root, split="val")
    assert reader.class_names == {"embedding": ("Ada", "Ben", "Cleo", "Dora")} and len(reader) == 8
    assert reader.files[4:6] == ("Cleo/2019/Cleo_0002.jpg", "Cleo/Cleo_0001.jpg")
    assert "1 hidden or system files (.ipynb_checkpoints)" in caplog.messages[0]
    assert caplog.messages[1].endswith("images in no identity's folder, left out: 1 (loose.jpg)")
