from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbvision.data.masks import mask_scheme
from mbvision.data.mat_files import struct_field
from mbvision.data.voc_masks import VOC_MASK_CLASSES, read_labelmap, read_sbd_mask, voc_masks
from mbvision.errors import AnnotationError, DataError

scipy_io = pytest.importorskip("scipy.io")  # comes with albumentations; writes the files, independently of our reader
savemat = scipy_io.savemat
SCHEME = mask_scheme(VOC_MASK_CLASSES, source="test")


def _year(root: Path, year: str = "VOC2012", **splits: list[str]) -> Path:
    folder = root / "VOCdevkit" / year
    for sub in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for split, stems in splits.items():
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(stems))
        for stem in stems:
            _pair(folder, stem)
    return folder


def _pair(folder: Path, stem: str, value: int = 1, masks: str = "SegmentationClass") -> None:
    Image.new("RGB", (6, 4)).save(folder / "JPEGImages" / f"{stem}.jpg")
    (folder / masks).mkdir(exist_ok=True)
    Image.new("L", (6, 4), value).save(folder / masks / f"{stem}.png")


def _value(root: Path, split: str, image_id: str) -> int:
    reader = voc_masks(root=root, split=split)
    return int(reader.mask(reader.annotations.image_ids.index(image_id))[0, 0])


def test_the_layout_gives_the_palette_indices_of_its_files(test_data: Path) -> None:
    root = test_data / "extra" / "vocseg_layout"
    for split, count in (("train", 8), ("val", 3), ("trainval", 11)):
        reader = voc_masks(root=root, split=split)
        assert len(reader) == count
        for index, stem in enumerate(reader.annotations.image_ids):
            with Image.open(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{stem}.png") as image:
                assert image.mode == "P"
                np.testing.assert_array_equal(reader.mask(index), np.asarray(image))
    sample = reader.read(0)
    assert sample.target.mask is not None and tuple(sample.target.mask.shape) == sample.image.shape[:2] == (360, 480)


def test_colour_masks_of_the_layout_give_the_same_labels(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "extra/vocseg_layout/VOCdevkit/VOC2012"
    stem = (folder / "ImageSets/Segmentation/val.txt").read_text().split()[0]
    own = _year(tmp_path, val=[stem])
    with Image.open(folder / "SegmentationClass" / f"{stem}.png") as image:
        indices = np.asarray(image).copy()
        image.convert("RGB").save(own / "SegmentationClass" / f"{stem}.png")
    np.testing.assert_array_equal(voc_masks(root=tmp_path, split="val").mask(0), indices)


def test_the_root_may_be_the_parent_the_devkit_or_the_year(tmp_path: Path) -> None:
    folder = _year(tmp_path, train=["a", "b"])
    for root in (tmp_path, folder.parent, folder):
        reader = voc_masks(root=root, split="train")
        assert reader.annotations.image_ids == ("a", "b")
        assert reader.path(0) == folder / "JPEGImages" / "a.jpg"
    assert reader.class_names["segmentation"] == VOC_MASK_CLASSES and len(VOC_MASK_CLASSES) == 21


def test_years_are_joined_and_told_apart(tmp_path: Path) -> None:
    _year(tmp_path, train=["a"])
    _year(tmp_path, "VOC2007", train=["a"])
    with pytest.raises(DataError, match="several years"):
        voc_masks(root=tmp_path, split="train")
    reader = voc_masks(root=tmp_path, split="VOC2007/train+VOC2012/train")
    assert reader.annotations.image_ids == ("VOC2007/a", "VOC2012/a")


def test_missing_masks_and_splits_are_named(tmp_path: Path) -> None:
    folder = _year(tmp_path, train=["a", "b", "c"])
    (folder / "SegmentationClass" / "b.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 listed pictures have no mask there .*: b"):
        voc_masks(root=tmp_path, split="train")
    with pytest.raises(DataError, match=r"no VOC segmentation split 'val'; looked for .*Segmentation/val\.txt"):
        voc_masks(root=tmp_path, split="val")
    with pytest.raises(DataError, match="no such folder"):
        voc_masks(root=tmp_path / "none", split="val")


def test_a_labelmap_gives_names_and_colours(tmp_path: Path) -> None:
    folder = _year(tmp_path, train=["a"])
    (folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nmy cat:9,8,7::\n\nvoid:224,224,192::\n"
    )
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, :2] = (9, 8, 7)
    pixels[1, 0] = (224, 224, 192)
    Image.fromarray(pixels).save(folder / "SegmentationClass" / "a.png")
    reader = voc_masks(root=folder, split="train")
    assert reader.class_names["segmentation"] == ("background", "my cat")
    assert reader.mask(0)[:2, :3].tolist() == [[1, 1, 0], [255, 0, 0]]


@pytest.mark.parametrize("line", ["cat", "cat:1,2", "cat:1,2,x::", "cat:1,2,300::", ":1,2,3::"])
def test_a_wrong_line_of_a_labelmap_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "labelmap.txt").write_text(f"a:0,0,0::\n{line}\n")
    with pytest.raises(DataError, match=r"labelmap\.txt: line 2 is"):
        read_labelmap(tmp_path / "labelmap.txt")


@pytest.mark.parametrize("listed", ["train_aug", "trainaug"])
def test_the_augmented_split_is_read_from_its_list(tmp_path: Path, listed: str) -> None:
    folder = _year(tmp_path, train=["a"], **{listed: ["a", "b"]})
    (folder / "SegmentationClass" / "b.png").unlink()
    _pair(folder, "b", 7, masks="SegmentationClassAug")
    for split in ("train_aug", "trainaug"):
        assert _value(tmp_path, split, "a") == 1 and _value(tmp_path, split, "b") == 7


def test_the_augmented_split_is_put_together_with_sbd_without_the_validation_pictures(tmp_path: Path) -> None:
    folder = _year(tmp_path, train=["a"], val=["v"])
    sbd = tmp_path / "VOCdevkit" / "benchmark_RELEASE" / "dataset"
    (sbd / "img").mkdir(parents=True)
    (sbd / "cls").mkdir()
    (sbd / "train.txt").write_text("a\nb\nv\n")
    (sbd / "val.txt").write_text("c\nb\n")
    Image.new("RGB", (6, 4)).save(folder / "JPEGImages" / "b.jpg")
    for stem in "abcv":
        Image.new("RGB", (6, 4)).save(sbd / "img" / f"{stem}.jpg")
        mask = {"Segmentation": np.full((4, 6), 9, np.uint8), "Boundaries": np.zeros((2, 2))}
        savemat(sbd / "cls" / f"{stem}.mat", {"GTcls": mask})
    reader = voc_masks(root=tmp_path, split="train_aug")
    assert reader.annotations.image_ids == ("a", "b", "c")
    assert [int(reader.read(i).target.mask.max()) for i in range(3)] == [1, 9, 9]  # type: ignore[union-attr]  # it has a mask
    assert reader.path(1) == folder / "JPEGImages" / "b.jpg" and reader.path(2) == sbd / "img" / "c.jpg"


def test_without_list_or_sbd_the_augmented_split_says_what_it_needs(tmp_path: Path) -> None:
    _year(tmp_path, train=["a"])
    with pytest.raises(DataError, match=r"train_aug\.txt.*trainaug\.txt.*benchmark_RELEASE"):
        voc_masks(root=tmp_path, split="train_aug")


def test_damaged_and_wrong_mat_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"nothing")
    with pytest.raises(AnnotationError, match=r"a\.mat: no mask of SBD"):
        read_sbd_mask(path, scheme=SCHEME)
    savemat(path, {"GTcls": {"Segmentation": np.full((2, 3), 40, np.uint8)}})
    with pytest.raises(AnnotationError, match=r"a\.mat: .*40 \(6 pixels\)"):
        read_sbd_mask(path, scheme=SCHEME)
    with pytest.raises(AnnotationError, match="the mask is 3x2, its image 4x2"):
        read_sbd_mask(path, scheme=SCHEME, size=(2, 4))
    savemat(path, {"other": 1})
    with pytest.raises(AnnotationError, match="GTcls"):
        read_sbd_mask(path, scheme=SCHEME)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64])
def test_mat_files_are_read_as_scipy_wrote_them(tmp_path: Path, compressed: bool, kind: type) -> None:
    values = np.random.default_rng(0).integers(0, 21, (5, 7)).astype(kind)
    fields = {"Boundaries": np.zeros((3, 1), dtype=object), "Segmentation": values, "CategoriesPresent": 3.0}
    path = tmp_path / "a.mat"
    savemat(path, {"first": np.eye(3), "GTcls": fields, "name": "x"}, do_compression=compressed)
    np.testing.assert_array_equal(struct_field(path.read_bytes(), "GTcls", "Segmentation"), values)
    np.testing.assert_array_equal(read_sbd_mask(path, scheme=SCHEME, size=(5, 7)), values)


def test_any_damage_of_a_mat_file_is_a_named_error_or_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    random = np.random.default_rng(0)
    values = random.integers(0, 21, (5, 7)).astype(np.uint8)
    for compressed in (False, True):
        savemat(path, {"GTcls": {"Segmentation": values}}, do_compression=compressed)
        whole = path.read_bytes()
        for turn in range(300):
            damaged = bytearray(whole[: random.integers(len(whole))] if turn % 3 == 0 else whole)
            for place in random.integers(max(len(damaged), 1), size=turn % 3):
                damaged[place] = random.integers(256)
            path.write_bytes(damaged)
            try:
                assert read_sbd_mask(path, scheme=SCHEME).dtype == np.uint8
            except AnnotationError as error:
                assert "a.mat" in str(error) and "\n" not in str(error)
