"""ImageNet as its archives unpack: folders of WordNet ids, a flat validation split, and the devkit's classes."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mbvision.data.imagenet import DEVKIT, imagenet, read_synsets
from mbvision.data.mat_files import struct_rows
from mbvision.errors import DataError

# ILSVRC2012_ID, WNID, words, num_children. Sorted by one of the first two they are not sorted by the other.
SYNSETS = [
    (1, "n02119789", "kit fox, Vulpes macrotis", 0),
    (2, "n02100735", "English setter", 0),
    (3, "n02110185", "Siberian husky", 0),
    (4, "n03126707", "crane", 0),
    (5, "n02012849", "crane", 0),
    (1001, "n02083346", "canine, canid", 4),
]
NAMES = ["crane (n02012849)", "English setter", "Siberian husky", "kit fox", "crane (n03126707)"]
WNIDS = ["n02012849", "n02100735", "n02110185", "n02119789", "n03126707"]


def write_devkit(root: Path, numbers: list[int], *, compressed: bool = True) -> Path:
    kit = root / DEVKIT / "data"
    kit.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", object), ("words", object), ("children", object), ("num_children", "f8")]
    rows = np.zeros((len(SYNSETS), 1), dtype=[(name, object) for name, _ in kinds])
    for row, (number, wnid, words, children) in zip(rows[:, 0], SYNSETS, strict=True):
        row["ILSVRC2012_ID"], row["WNID"], row["words"] = float(number), wnid, words
        row["children"], row["num_children"] = np.arange(children, dtype=float), float(children)
    savemat(kit / "meta.mat", {"synsets": rows}, do_compression=compressed)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in numbers))
    return kit.parent


def write_picture(path: Path, gray: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (gray,) * 3).save(path, "JPEG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The training folders, and a flat validation split whose second picture is missing."""
    for wnid in WNIDS:
        write_picture(tmp_path / "train" / wnid / f"{wnid}_10.JPEG")
    for number in (1, 3, 4):
        write_picture(tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", 40 * number)
    write_devkit(tmp_path, [3, 1, 5, 4])
    return tmp_path


@pytest.mark.parametrize("compressed", [False, True])
def test_classes_are_sorted_by_wordnet_id_and_named_apart(tmp_path: Path, compressed: bool) -> None:
    synsets = read_synsets(write_devkit(tmp_path, [], compressed=compressed))
    assert [synset.wnid for synset in synsets] == WNIDS == sorted(WNIDS)
    assert [synset.name for synset in synsets] == NAMES
    assert [synset.number for synset in synsets] == [5, 2, 3, 1, 4]


def test_a_flat_validation_split_gets_its_labels_from_the_devkit(root: Path) -> None:
    reader = imagenet(root=root, split="val")
    assert list(reader.class_names["classification"]) == NAMES
    found = [reader.read(index) for index in range(len(reader))]
    assert [sample.target.image_id for sample in found] == [f"ILSVRC2012_val_{n:08d}.JPEG" for n in (1, 3, 4)]
    assert [sample.target.label for sample in found] == [2, 0, 4]  # husky, crane of 2012849, crane of 3126707
    assert [round(float(sample.image.mean())) for sample in found] == [40, 120, 160]


def test_both_splits_have_the_same_classes_in_folders_too(root: Path) -> None:
    train = imagenet(root=root, split="train")
    assert list(train.class_names["classification"]) == NAMES
    assert [train.read(index).target.label for index in range(5)] == list(range(5))
    moved = root / "val" / "n02110185"
    for wnid in WNIDS:
        (root / "val" / wnid).mkdir()
    for path in list((root / "val").glob("*.JPEG")):
        path.rename(moved / path.name)
    val = imagenet(root=root, split="val")
    assert [val.read(index).target.label for index in range(3)] == [2, 2, 2]


def test_without_a_devkit_folders_are_called_by_their_ids_and_flat_pictures_refused(root: Path) -> None:
    (root / DEVKIT).rename(root / "elsewhere")
    assert list(imagenet(root=root, split="train").class_names["classification"]) == WNIDS
    with pytest.raises(DataError, match=r"lie flat need the devkit .*unpack ILSVRC2012_devkit_t12\.tar\.gz"):
        imagenet(root=root, split="val")
    assert len(imagenet(root=root, split="val", devkit=root / "elsewhere")) == 3


def test_what_does_not_fit_together_is_named(root: Path) -> None:
    write_picture(root / "val" / "ILSVRC2012_val_00000009.JPEG")
    with pytest.raises(DataError, match=r"val_00000009\.JPEG: its number has no line in .*, which has 4"):
        imagenet(root=root, split="val")
    truth = root / DEVKIT / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("3\n77\n")
    with pytest.raises(DataError, match=r"class 77 is not in meta\.mat"):
        imagenet(root=root, split="val")
    truth.write_text("three\n")
    with pytest.raises(DataError, match="cannot be read as a list of class numbers"):
        imagenet(root=root, split="val")
    (root / "train" / "tench").mkdir()
    with pytest.raises(DataError, match=r"train/tench: not named by a WordNet id, .*data=image_folder"):
        imagenet(root=root, split="train")


def test_any_damage_of_the_devkit_is_a_named_error_or_classes(root: Path) -> None:
    path = root / DEVKIT / "data" / "meta.mat"
    random = np.random.default_rng(0)
    whole = path.read_bytes()
    for turn in range(300):
        damaged = bytearray(whole[: random.integers(len(whole))] if turn % 3 == 0 else whole)
        for place in random.integers(max(len(damaged), 1), size=turn % 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_synsets(root / DEVKIT)
        except DataError as error:
            assert "meta.mat" in str(error) and "\n" not in str(error)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(kind: int, values: bytes, *, name: bytes = b"", shape: tuple[int, int] = (1, 1)) -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *shape)) + element(1, name)
    return element(14, head + values)


def test_texts_of_two_bytes_a_letter_are_read_as_matlab_writes_them() -> None:
    """By MathWorks' description of the format: a char array (class 4) of unsigned 16-bit numbers (type 4)."""
    words = ["Fuß", "crane"]
    values = element(5, struct.pack("<i", 8)) + element(1, b"words\0\0\0")
    values += b"".join(matrix(4, element(4, word.encode("utf-16-le")), shape=(1, len(word))) for word in words)
    content = b" " * 124 + b"\x00\x01IM" + matrix(2, values, name=b"synsets", shape=(2, 1))
    assert struct_rows(content, "synsets", ["words"]) == [{"words": "Fuß"}, {"words": "crane"}]
    with pytest.raises(ValueError, match=r"holds no synsets\.WNID"):
        struct_rows(content, "synsets", ["WNID"])
