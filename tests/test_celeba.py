"""CelebA's own files, as they are and in their comma-separated edition; what is wrong in them is named."""

from pathlib import Path

import numpy as np
import pytest

from mbvision.build import build_reader
from mbvision.commands.compose import compose_config
from mbvision.data.celeba import celeba
from mbvision.errors import AnnotationError, ConfigError, DataError, ImageError
from tests.face_sets import NAMES, write_celeba


@pytest.fixture
def root(tmp_path: Path) -> Path:
    values = [" 1 -1 -1", "-1  1  1", " 0 -1  1", "-1 -1 -1", " 1  1 -1"]
    return write_celeba(tmp_path, values=values, splits="00012", identities=[7, 12, 7, 3, 9])


def test_a_split_has_its_pictures_attributes_and_identities(root: Path) -> None:
    reader = celeba(root=root, split="train")
    assert len(reader) == 3 and reader.class_names["attributes"] == NAMES
    known = reader.truth["attributes"]
    assert known.values.tolist() == [[1, 0, 0], [0, 1, 1], [255, 0, 1]]
    assert reader.class_names["embedding"] == ("7", "12")
    assert reader.truth["embedding"].identities.tolist() == [0, 1, 0]
    sample = reader.read(2)
    assert sample.target.image_id == "000003.jpg" and sample.target.identity == 0
    assert sample.target.attributes is not None and sample.target.attributes.tolist() == [255, 0, 1]
    assert sample.image.shape == (8, 6, 3) and sample.target.geometry.original == (8, 6)
    assert abs(int(sample.image.mean()) - 20) <= 1
    assert [len(celeba(root=root, split=split)) for split in ("val", "test")] == [1, 1]


def test_the_official_folders_are_found(root: Path) -> None:
    for folder, name in (
        ("Anno", "list_attr_celeba.txt"),
        ("Anno", "identity_CelebA.txt"),
        ("Eval", "list_eval_partition.txt"),
        ("Img", "img_align_celeba"),
    ):
        (root / folder).mkdir(exist_ok=True)
        (root / name).rename(root / folder / name)
    reader = celeba(root=root, split="train")
    assert reader.read(0).target.identity == 0 and reader.path(0) == root / "Img/img_align_celeba/000001.jpg"


def test_commas_say_the_same(root: Path) -> None:
    expected = celeba(root=root, split="train").truth["attributes"]
    rows = (root / "list_attr_celeba.txt").read_text().splitlines()[2:]
    lines = ["image_id," + ",".join(NAMES), *(",".join(row.split()) for row in rows)]
    (root / "list_attr_celeba.csv").write_text("\n".join(lines))
    partition = (root / "list_eval_partition.txt").read_text().replace(" ", ",")
    (root / "list_eval_partition.csv").write_text("image_id,partition\n" + partition)
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"):
        (root / name).unlink()
    (root / "img_align_celeba" / "img_align_celeba").mkdir()
    for file in (root / "img_align_celeba").glob("*.jpg"):
        file.rename(file.parent / "img_align_celeba" / file.name)
    reader = celeba(root=root, split="train")
    assert reader.truth["attributes"].names == expected.names and "embedding" not in reader.class_names
    np.testing.assert_array_equal(reader.truth["attributes"].values, expected.values)
    assert reader.read(1).target.identity is None


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "5\n", "six\n", r"list_attr_celeba\.txt:1: expected the number of pictures"),
        ("list_attr_celeba.txt", "5\n", "6\n", r"list_attr_celeba\.txt:1: says 6 pictures, but 5 lines follow"),
        ("list_attr_celeba.txt", "Male", "Smiling", r"list_attr_celeba\.txt:2: .*each once"),
        (
            "list_attr_celeba.txt",
            "-1  1  1",
            "-1  1",
            r"list_attr_celeba\.txt:4: 2 values behind '000002.jpg', expected 3",
        ),
        ("list_attr_celeba.txt", "-1  1  1", "-1  2  1", r"list_attr_celeba\.txt:4: '2' is neither 1, -1 nor 0"),
        ("list_attr_celeba.txt", "000003.jpg", "3.jpg", r"list_attr_celeba\.txt: it has no line for 000003\.jpg"),
        ("list_attr_celeba.txt", "-1", " 0", r"list_attr_celeba\.txt: it holds 0 but no -1"),
        ("list_attr_celeba.txt", "000003.jpg", "000002.jpg", r"txt:5: 000002\.jpg has a line already, 4; remove one"),
        ("list_eval_partition.txt", "000003.jpg", "000002.jpg", r"txt:3: 000002\.jpg has a line already, 2"),
        ("identity_CelebA.txt", "000003.jpg", "000002.jpg", r"CelebA\.txt:3: 000002\.jpg has a line already, 2"),
        ("list_eval_partition.txt", "000002.jpg 0", "000002.jpg 4", r"list_eval_partition\.txt:2: '4' is no split"),
        ("identity_CelebA.txt", "000003.jpg 7", "000003.jpg", r"identity_CelebA\.txt:3: 0 values .*expected 1"),
    ],
)
def test_a_wrong_line_is_named(root: Path, file: str, old: str, new: str, message: str) -> None:
    path = root / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(AnnotationError, match=message) as caught:
        celeba(root=root, split="train")
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="has no split 'trian'; choose train, val, test"):
        celeba(root=root, split="trian")
    with pytest.raises(DataError, match="no picture is of the split val"):
        path = root / "list_eval_partition.txt"
        path.write_text(path.read_text().replace(" 1", " 0"))
        celeba(root=root, split="val")
    (root / "img_align_celeba" / "000001.jpg").unlink()
    with pytest.raises(ImageError, match=r"000001\.jpg: no such picture"):
        celeba(root=root, split="train").read(0)
    (root / "img_align_celeba").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"img_align_celeba: there is no such folder of pictures"):
        celeba(root=root, split="train")
    assert len(celeba(root=root, split="train", images=root / "elsewhere")) == 4
    (root / "list_attr_celeba.txt").unlink()
    with pytest.raises(DataError, match=r"list_attr_celeba\.txt: there is no such file, nor list_attr_celeba\.csv"):
        celeba(root=root, split="train", images=root / "elsewhere")


def test_a_network_needs_the_same_attributes_but_not_the_same_people(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = compose_config("train", ["task=attributes", "data=celeba", f"data.root={root}"])["data"]
    both = build_reader(data, "train_split", tasks=("attributes", "embedding"))
    assert set(both.class_names) == set(both.truth) == {"attributes", "embedding"}
    alone = build_reader(data, "train_split", tasks=("attributes",))
    assert set(alone.class_names) == {"attributes"} and alone.read(0).target.identity is None
    with pytest.raises(DataError, match=r"its attributes are .* the network's"):
        build_reader(data, "val_split", tasks=("attributes",), class_names={"attributes": ("Smiling",)})
    val = build_reader(data, "val_split", tasks=("embedding",), class_names=both.class_names)
    assert val.class_names["embedding"] == ("7", "12") and val.truth["embedding"].names == ("3",)
    assert not caplog.records
    build_reader(data, "train_split", tasks=("embedding",), class_names=both.class_names)
    assert "2 of its 2 identities are among those that the network was trained on" in caplog.text
    with pytest.raises(ConfigError, match="has labels for attributes, embedding, not for detection"):
        build_reader(data, "train_split", tasks=("detection",))
