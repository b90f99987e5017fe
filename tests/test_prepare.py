import hashlib
import json
import logging
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.commands import prepare_data
from mbvision.data.coco import coco
from mbvision.data.prepare import OFFICIAL, Archive, OfficialSet, describe, prepare
from mbvision.data.yolo import convert_yolo
from mbvision.errors import ConfigError, DataError


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the archives of two tiny official sets."""
    folder = tmp_path / "archives"
    (folder / "parts" / "kit" / "2007").mkdir(parents=True)
    (folder / "parts" / "kit" / "2007" / "a.txt").write_text("1\n2\n")
    with tarfile.open(folder / "kit.tar", "w") as tar:
        tar.add(folder / "parts" / "kit", "kit")
    with zipfile.ZipFile(folder / "val.zip", "w") as zipped:
        zipped.writestr("val/1.jpg", "x")
        zipped.writestr("val/2.jpg", "y")

    def archive(name: str) -> Archive:
        digest = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        return Archive(name=name, size="9 GB", page="https://example.org/", md5=digest)

    monkeypatch.setitem(OFFICIAL, "zipped", OfficialSet(archives=(archive("val.zip"),), contents={"val": 2}))
    monkeypatch.setitem(
        OFFICIAL, "kit", OfficialSet(archives=(archive("kit.tar"),), contents={"2007/a.txt": 2}, folder="kit")
    )
    return folder


def test_archives_are_unpacked_and_counted(archives: Path, tmp_path: Path) -> None:
    assert prepare("zipped", archives, tmp_path / "root", progress=False) == {"val": 2}
    assert sorted(path.name for path in (tmp_path / "root" / "val").iterdir()) == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize("root", ["root", "root/kit"])
def test_a_root_may_end_with_the_folder_that_the_archives_bring(archives: Path, tmp_path: Path, root: str) -> None:
    assert prepare("kit", archives, tmp_path / root, progress=False) == {"2007/a.txt": 2}
    assert (tmp_path / "root" / "kit" / "2007" / "a.txt").is_file()


def test_a_complete_root_needs_no_archives(archives: Path, tmp_path: Path) -> None:
    prepare("zipped", archives, tmp_path / "root", progress=False)
    assert prepare("zipped", tmp_path / "nowhere", tmp_path / "root") == {"val": 2}


def test_each_missing_archive_is_listed_with_its_size_and_page(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepare("coco", tmp_path, tmp_path / "root")
    assert str(caught.value).partition("again: ")[2].split(", ") == [
        "train2017.zip (18 GB) from https://cocodataset.org/#download",
        "val2017.zip (0.8 GB) from https://cocodataset.org/#download",
        "annotations_trainval2017.zip (241 MB) from https://cocodataset.org/#download",
    ]
    assert not (tmp_path / "root").exists()
    assert describe("voc").splitlines()[2].startswith("VOCtrainval_11-May-2012.tar (1.9 GB) from http://host.robots")


def test_a_damaged_archive_is_refused(archives: Path, tmp_path: Path) -> None:
    with open(archives / "val.zip", "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"val\.zip: its md5 is"):
        prepare("zipped", archives, tmp_path / "root", progress=False)


def test_what_is_not_complete_after_unpacking_is_told(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OFFICIAL, "zipped", OfficialSet(archives=OFFICIAL["zipped"].archives, contents={"val": 3}))
    with pytest.raises(DataError, match="not complete after unpacking: val: 2 of 3"):
        prepare("zipped", archives, tmp_path / "root", progress=False)


def test_an_unknown_set_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data=mine has no official archives; there are coco, voc, voc2007, voc2012"):
        prepare("mine", tmp_path, tmp_path)


def _yolo(root: Path, layout: str, lines: str = "1 0.5 0.5 0.5 0.2\n0 0.05 0.9 0.1 0.2\n") -> Path:
    images, labels = (root / layout.format(kind) for kind in ("images", "labels"))
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for stem in ("a", "b"):
        Image.new("RGB", (40, 30)).save(images / f"{stem}.png")
    (labels / "a.txt").write_text(lines)
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    return root


@pytest.mark.parametrize("layout", ["{}/val", "val/{}"])
def test_a_yolo_set_becomes_a_coco_set_that_reads(tmp_path: Path, layout: str) -> None:
    root = _yolo(tmp_path, layout)
    assert convert_yolo(root, root) == {"val": root / "annotations" / "instances_val.json"}
    reader = coco(root=root, split="val")
    assert reader.class_names["detection"] == ("cat", "dog")
    boxes, labels = reader.annotations.training_boxes(0)
    np.testing.assert_allclose(boxes, [[10, 12, 30, 18], [0, 24, 4, 30]], atol=1e-5)
    assert labels.tolist() == [1, 0]
    assert len(reader.annotations.training_boxes(1)[0]) == 0
    assert reader.read(1).image.shape == (30, 40, 3)


def test_names_may_be_a_mapping(tmp_path: Path) -> None:
    root = _yolo(tmp_path, "{}/val")
    (root / "data.yaml").write_text("names:\n  1: dog\n  0: cat\n")
    target = convert_yolo(root, root)["val"]
    assert json.loads(target.read_text())["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


BAD_LINES = {
    "1 0.5 0.5 0.5": "4 values where a box has 5",
    "1 0.5 0.5 0.5 0.2 0.9": "6 values where a box has 5",
    "2 0.5 0.5 0.5 0.2": "class 2 is not among the 2",
    "-1 0.5 0.5 0.5 0.2": "class -1 is not among the 2",
    "cat 0.5 0.5 0.5 0.2": "is not a whole number and four numbers",
    "1 0.5 nan 0.5 0.2": "not in 0 to 1",
    "1 20 15 20 6": "not in 0 to 1",
    "1 0.5 0.5 0 0.2": "the box has no area",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_with_file_and_number_and_nothing_is_written(tmp_path: Path, line: str) -> None:
    root = _yolo(tmp_path, "{}/val", lines=f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(DataError, match=rf"labels/val/a\.txt:3: .*{BAD_LINES[line]}"):
        convert_yolo(root, root)
    assert not (root / "annotations").exists()


def test_all_bad_lines_are_counted_and_the_first_ten_shown(tmp_path: Path) -> None:
    root = _yolo(tmp_path, "{}/val", lines="0 0 0 0 0\n" * 12)
    with pytest.raises(DataError, match=r"a\.txt:1: .*a\.txt:10: .*and 2 more"):
        convert_yolo(root, root)


def test_a_file_that_is_there_already_is_not_overwritten(tmp_path: Path) -> None:
    root = _yolo(tmp_path, "{}/val")
    convert_yolo(root, root)
    with pytest.raises(DataError, match=r"instances_val\.json: is there already"):
        convert_yolo(root, root)


BAD_YAML = {
    "nc: 2": "names must be a list",
    "names: {0: a, 2: b}": "names must be a list",
    "names: [a, a]": "names holds a class twice",
    "names: [a]\nnames: [b]": "the key 'names' twice",
    "x: &x [a]\nnames: *x": "holds a reference",
    "names: [a": "not valid YAML",
    "names: !!python/object/apply:os.getcwd []": "not valid YAML",
    "- a": "must be a mapping",
    "[" * 500_000: "nested more than 20 deep",
}


@pytest.mark.parametrize("text", BAD_YAML, ids=range(len(BAD_YAML)))
def test_a_bad_data_yaml_is_an_error(tmp_path: Path, text: str) -> None:
    root = _yolo(tmp_path, "{}/val")
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"data\.yaml: .*{BAD_YAML[text]}"):
        convert_yolo(root, root)


def test_what_is_missing_in_a_yolo_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.yaml: no such data\.yaml"):
        convert_yolo(tmp_path, tmp_path)
    (tmp_path / "data.yaml").write_text("names: [a]")
    with pytest.raises(DataError, match="neither images/SPLIT with labels/SPLIT nor SPLIT/images"):
        convert_yolo(tmp_path, tmp_path)


def test_class_names_are_their_own_text(tmp_path: Path) -> None:
    root = _yolo(tmp_path, "{}/val", lines="0 0.5 0.5 0.2 0.2\n")
    texts = ["no", "yes", "null", "~", "2020-01-01", "1_000", "0x10", "1e3", "12:30:45", "on", "007", ".5", "true"]
    (root / "data.yaml").write_text("names:\n" + "".join(f"- {text}\n" for text in texts) + "nc: 13\n")
    target = convert_yolo(root, root)["val"]
    assert [category["name"] for category in json.loads(target.read_text())["categories"]] == texts
    target.unlink()
    (root / "data.yaml").write_text("names: {0: no, 1: 'yes', 2: 3.10}\n")
    assert [c["name"] for c in json.loads(convert_yolo(root, root)["val"].read_text())["categories"]] == [
        *("no", "yes", "3.10")
    ]


def test_images_and_text_files_without_a_counterpart_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _yolo(tmp_path, "{}/val")
    labels = root / "labels" / "val"
    (labels / "b.png.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (labels / "classes.txt").write_text("cat\ndog\n")  # labelImg's
    (labels / "._a.txt").write_bytes(b"\0\5\26\7")
    with caplog.at_level(logging.INFO):
        convert_yolo(root, root)
    assert caplog.messages == [
        f"{labels}: passed over: 1 hidden or system files (._a.txt)",
        f"{root}/images/val: images without a text file, taken as images without an object: 1 of 2 (b.png)",
        f"{labels}: text files without an image of their name, left out: 1 (b.png.txt); name each as its image, with "
        ".txt",
        f"{root}/images/val: 2 images, 2 boxes, of which all train",
    ]


def test_text_files_are_found_by_suffix_in_any_case_and_in_sub_folders(tmp_path: Path) -> None:
    root = _yolo(tmp_path, "{}/val")
    (root / "labels" / "val" / "a.txt").rename(root / "labels" / "val" / "a.TXT")
    for kind, name in (("images", "b.png"), ("labels", "b.txt")):
        (root / kind / "val" / "deep").mkdir()
        (root / kind / "val" / "deep" / name).write_bytes((root / "images" / "val" / "b.png").read_bytes())
    (root / "labels" / "val" / "deep" / "b.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    document = json.loads(convert_yolo(root, root)["val"].read_text())
    assert [image["file_name"] for image in document["images"]] == [f"images/val/{n}.png" for n in ("a", "b", "deep/b")]
    assert [record["image_id"] for record in document["annotations"]] == [1, 1, 3]


def test_text_files_of_no_image_are_an_error(tmp_path: Path) -> None:
    root = _yolo(tmp_path, "{}/val")
    (root / "labels" / "val" / "labels").mkdir()
    (root / "labels" / "val" / "a.txt").rename(root / "labels" / "val" / "labels" / "a.txt")
    with pytest.raises(DataError, match=r"none of its 1 text files \(labels/a\.txt\) has the name of one of the 2 im"):
        convert_yolo(root, root)


def test_a_split_without_labels_is_counted_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _yolo(tmp_path, "{}/val")
    (root / "images" / "test").mkdir()
    (root / "images" / "test" / "c.png").write_bytes(b"")
    assert list(convert_yolo(root, root / "out")) == ["val"]
    assert f"{root}/images/test: 1 images without a folder {root}/labels/test, not converted" in caplog.messages
    (root / "labels" / "testing").mkdir()
    with pytest.raises(DataError, match=r"labels/test: there is no such folder, but labels/testing without images"):
        convert_yolo(root, root / "again")


@pytest.mark.parametrize(
    ("splits", "keys"),
    [
        (("train", "test"), "data.train_split=train data.val_split=test"),
        (("training", "validation"), "data.train_split=training data.val_split=validation"),
        (("val",), None),
    ],
)
def test_the_command_to_train_names_splits_that_there_are(
    tmp_path: Path, splits: tuple[str, ...], keys: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in splits:
        _yolo(tmp_path, f"{{}}/{split}")
    assert prepare_data.main(["data=yolo", f"source={tmp_path}", f"data.root={tmp_path}/out"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("train with: ") and last.endswith(keys) if keys else last.startswith("there is no split but")
