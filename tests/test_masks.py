import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from mbvision.data.masks import MaskItem, MaskReader, mask_file, mask_reader, mask_scheme, read_mask, voc_palette
from mbvision.data.voc_masks import VOC_MASK_CLASSES
from mbvision.errors import AnnotationError, DataError, ImageError, MBVisionError
from mbvision.structures import MaskAnnotations

NAMES = ("background", "cat", "dog")
SCHEME = mask_scheme(NAMES, source="test", palette=voc_palette(3))
STORED = np.array([[0, 1, 2, 255], [2, 2, 0, 1], [1, 0, 255, 0]], dtype=np.uint8)


def _saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]  # options differ from test to test
    return path


def _palette_image() -> Image.Image:
    image = Image.fromarray(STORED)
    image.putpalette([value for colour in voc_palette(256) for value in colour])
    assert image.mode == "P"
    return image


def _read(path: Path, **options: object) -> np.ndarray:
    return read_mask(path, root=path.parent, scheme=SCHEME, **options)  # type: ignore[arg-type]  # options differ from test to test


def test_the_palette_is_the_one_of_pascal_voc() -> None:
    palette = voc_palette(256)
    assert palette[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert palette[15] == (192, 128, 128) and palette[255] == (224, 224, 192) and len(set(palette)) == 256


@pytest.mark.parametrize(
    "make",
    [
        lambda path: _palette_image().save(path),
        lambda path: Image.fromarray(STORED).save(path),
        lambda path: Image.fromarray(STORED.astype(np.uint16)).save(path),
        lambda path: _palette_image().convert("RGB").save(path),
        lambda path: _palette_image().convert("RGBA").save(path),
    ],
    ids=["palette", "gray", "16 bits", "colours", "colours with alpha"],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_way_to_store_a_mask_gives_the_same_labels(
    tmp_path: Path, make: Callable[[Path], None], suffix: str
) -> None:
    make(tmp_path / f"a.{suffix}")
    labels = _read(tmp_path / f"a.{suffix}", size=(3, 4))
    assert labels.dtype == np.uint8 and labels.flags.writeable
    np.testing.assert_array_equal(labels, STORED)


def test_a_mask_of_one_bit_has_the_labels_0_and_1(tmp_path: Path) -> None:
    _saved(tmp_path / "a.png", STORED == 1)
    np.testing.assert_array_equal(_read(tmp_path / "a.png"), STORED == 1)


def test_stored_values_become_contiguous_labels_and_void_255(tmp_path: Path) -> None:
    scheme = mask_scheme(["road", "sky"], source="test", stored=[7, 23], ignored=[0, 11])
    path = _saved(tmp_path / "a.png", np.array([[7, 23, 0], [11, 7, 7]], dtype=np.uint8))
    assert read_mask(path, root=tmp_path, scheme=scheme).tolist() == [[0, 1, 255], [255, 0, 0]]


def test_values_that_belong_to_no_class_are_named_with_their_count(tmp_path: Path) -> None:
    pixels = STORED.copy()
    pixels[0, :3] = (9, 9, 77)
    with pytest.raises(AnnotationError, match=r"a\.png: mask values .* 9 \(2 pixels\), 77 \(1 pixels\); correct"):
        _read(_saved(tmp_path / "a.png", pixels))
    deep = STORED.astype(np.uint16)
    deep[0, 0] = 26001
    with pytest.raises(AnnotationError, match=r"b\.png: mask values .* 26001 \(1 pixels\)"):
        _read(_saved(tmp_path / "b.png", deep))


def test_a_colour_that_no_class_has_is_named(tmp_path: Path) -> None:
    pixels = np.asarray(_palette_image().convert("RGB")).copy()
    pixels[1, 1] = (1, 2, 3)
    with pytest.raises(AnnotationError, match=r"a\.png: .*colours that no class has: RGB \(1, 2, 3\) \(1 pixels"):
        _read(_saved(tmp_path / "a.png", pixels))


def test_a_colour_of_two_classes_is_refused_only_where_it_occurs(tmp_path: Path) -> None:
    red = (255, 0, 0)
    scheme = mask_scheme(["a", "b", "c"], source="test", palette=[red, red, (0, 0, 9)])
    path = _saved(tmp_path / "a.png", np.full((2, 2, 3), (0, 0, 9), dtype=np.uint8))
    assert (read_mask(path, root=tmp_path, scheme=scheme) == 2).all()
    path = _saved(tmp_path / "b.png", np.full((2, 2, 3), red, dtype=np.uint8))
    with pytest.raises(AnnotationError, match=r"b\.png: the colour RGB \(255, 0, 0\) belongs to two classes"):
        read_mask(path, root=tmp_path, scheme=scheme)


def test_black_is_void_unless_a_class_is_black(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png", np.zeros((2, 2, 3), dtype=np.uint8))
    scheme = mask_scheme(["a"], source="test", palette=[(9, 9, 9)])
    assert (read_mask(path, root=tmp_path, scheme=scheme) == 255).all()
    assert (_read(path) == 0).all()


@pytest.mark.parametrize(("kind", "why"), [("JPEG", "lossy"), ("GIF", "numbers its colours again")])
def test_formats_that_change_labels_are_refused_by_content(tmp_path: Path, kind: str, why: str) -> None:
    path = _saved(tmp_path / "a.png", STORED, format=kind)
    with pytest.raises(AnnotationError, match=rf"a\.png: .*{why}.*export the masks as PNG"):
        _read(path)


def test_a_tiff_with_jpeg_inside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="lossy"):
        _read(_saved(tmp_path / "a.tif", np.zeros((16, 16), dtype=np.uint8), compression="jpeg"))


def test_other_modes_and_sizes_are_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.tif", STORED.astype(np.float32))
    with pytest.raises(AnnotationError, match="cannot be of mode F"):
        _read(path)
    with pytest.raises(AnnotationError, match=r"b\.png: the mask is 4x3, its image 5x3"):
        _read(_saved(tmp_path / "b.png", STORED), size=(3, 5))
    with pytest.raises(ImageError, match="above the limit of 11 pixels"):
        _read(tmp_path / "b.png", max_pixels=11)


def test_a_mask_outside_its_root_is_not_opened(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png", STORED)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.png").symlink_to(path)
    with pytest.raises(ImageError, match="leads out of"):
        read_mask(tmp_path / "root" / "link.png", root=tmp_path / "root", scheme=SCHEME)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_orientation_of_a_mask_is_left_alone(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = _saved(tmp_path / f"a.{suffix}", STORED, exif=exif)
    np.testing.assert_array_equal(_read(path, size=(3, 4)), STORED)


def test_wrong_schemes_are_named() -> None:
    for arguments, reason in (
        ({"class_names": ["a", "a"]}, "'a' is there twice"),
        ({"class_names": []}, "0 classes"),
        ({"class_names": ["a"], "stored": [255]}, "belongs to two"),
        ({"class_names": ["a"], "ignored": [300]}, "300 is outside"),
        ({"class_names": [str(i) for i in range(256)]}, "256 classes"),
    ):
        with pytest.raises(DataError, match=rf"^here: .*{reason}"):
            mask_scheme(source="here", **arguments)  # type: ignore[arg-type]  # options differ from test to test


def _reader(folder: Path, *, orientation: int = 1) -> MaskReader:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (4, 3), (1, 2, 3)).save(folder / "picture.png", exif=exif)
    mask = mask_file(folder / "mask.png", root=folder, scheme=SCHEME, max_pixels=100)
    item = MaskItem(image_id="p", image=folder / "picture.png", image_root=folder, mask=mask)
    return mask_reader([item], SCHEME, source="test", max_pixels=100)


def test_a_reader_pairs_picture_and_mask(tmp_path: Path) -> None:
    _saved(tmp_path / "mask.png", STORED)
    reader = _reader(tmp_path)
    sample = reader.read(0)
    assert reader.class_names == {"segmentation": NAMES} and reader.truth["segmentation"].image_ids == ("p",)
    assert sample.target.mask is not None and sample.target.mask.tolist() == STORED.tolist()
    assert sample.target.image_id == "p" and sample.target.geometry.original == (3, 4) and sample.target.boxes is None
    assert sample.path == str(reader.path(0)) == str(tmp_path / "picture.png")
    with pytest.raises(AnnotationError, match="the mask is 4x3, its image 3x4"):
        reader.mask(0, (4, 3))


def test_a_mask_drawn_on_the_stored_picture_keeps_it_unrotated_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _saved(tmp_path / "mask.png", STORED)
    reader = _reader(tmp_path, orientation=6)
    with caplog.at_level(logging.WARNING):
        assert reader.read(0).image.shape == reader.read(0).image.shape == (3, 4, 3)
    assert caplog.text.count("as it is stored") == 1
    _saved(tmp_path / "mask.png", STORED.T.copy())
    assert _reader(tmp_path, orientation=6).read(0).image.shape == (4, 3, 3)


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "mask.png", STORED[:2])
    with pytest.raises(AnnotationError, match=r"picture\.png: the picture is 4x3, its mask 4x2"):
        _reader(tmp_path).read(0)


def test_readers_need_unique_ids_and_one_for_each_item(tmp_path: Path) -> None:
    item = MaskItem(image_id=1, image=tmp_path / "a", image_root=tmp_path, mask=lambda *, size=None: STORED)
    with pytest.raises(DataError, match=r"^here: the picture 1 is there twice"):
        mask_reader([item, item], SCHEME, source="here", max_pixels=9)
    with pytest.raises(DataError, match=r"^here: holds no picture"):
        mask_reader([], SCHEME, source="here", max_pixels=9)
    with pytest.raises(ValueError, match="same image ids"):
        MaskReader(annotations=MaskAnnotations(scheme=SCHEME, image_ids=(2,)), items=[item])


def test_odd_files_are_a_named_error_or_the_right_mask(test_data: Path) -> None:
    scheme = mask_scheme(VOC_MASK_CLASSES, source="test")
    for path in sorted((test_data / "extra" / "odd_images").iterdir()):
        with pytest.raises(MBVisionError, match=path.name.replace(".", r"\.")) as caught:
            read_mask(path, root=path.parent, scheme=scheme)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_camvid_masks_are_their_pixels_with_void_ignored(test_data: Path) -> None:
    names = [str(label) for label in range(11)]
    scheme = mask_scheme(names, source="test", ignored=(11, 255))
    for path in sorted((test_data / "camvid" / "labels" / "val").iterdir())[::20]:
        pixels = np.asarray(Image.open(path))
        np.testing.assert_array_equal(
            read_mask(path, root=path.parent, scheme=scheme, size=(360, 480)), np.where(pixels == 11, 255, pixels)
        )
