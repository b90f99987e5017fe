import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile

from mbvision.data import images
from mbvision.data.image_kinds import FORMATS, SUFFIXES
from mbvision.data.images import decode_image, image_size, read_image, stored_size
from mbvision.errors import ImageError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The upright picture, written out from the definition in Exif 2.32: what row 0 and column 0 show."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: pixels[::-1].swapaxes(0, 1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: pixels[:, ::-1].swapaxes(0, 1),
    }[orientation]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_give_their_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, PIXELS)
    assert image_size(path) == stored_size(path) == (6, 9)


def test_the_format_is_told_by_content_not_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(path), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_every_exif_orientation_is_applied_in_every_format(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(PIXELS).save(path, exif=_exif(orientation), **options)
    upright = _turned(PIXELS, orientation)
    np.testing.assert_array_equal(read_image(path), upright)
    np.testing.assert_array_equal(read_image(path, upright=False), PIXELS)
    assert image_size(path) == upright.shape[:2]
    assert stored_size(path) == (6, 9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_by_its_exif_orientation(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.kron(PIXELS, np.ones((16, 16, 1), np.uint8))).save(path, exif=_exif(orientation), quality=95)
    stored = read_image(path, upright=False)
    assert stored.shape == (96, 144, 3)
    np.testing.assert_array_equal(read_image(path), _turned(stored, orientation))
    assert image_size(path) == read_image(path).shape[:2]


def test_exif_behind_the_pixels_of_a_png_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    exif = _exif(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    content = path.read_bytes()
    path.write_bytes(content[:-12] + chunk + content[-12:])
    np.testing.assert_array_equal(read_image(path), _turned(PIXELS, 6))
    assert image_size(path) == (9, 6)
    assert stored_size(path) == (6, 9)


@pytest.mark.parametrize("exif", [_exif(0), _exif(9), b"Exif\0\0nonsense"])
def test_a_senseless_orientation_leaves_the_picture_as_it_is(tmp_path: Path, exif: Image.Exif | bytes) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), PIXELS)


def test_gray_is_replicated_and_black_and_white_is_0_and_255(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[:, :, 0]).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(PIXELS[:, :, :1], 3, axis=2))
    bits = PIXELS[:, :, 0] > 128
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png"), np.repeat(bits[:, :, None] * 255, 3, axis=2))


def test_alpha_is_dropped_and_the_colour_below_it_kept(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 2, (6, 9, 1), dtype=np.uint8) * 255
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), PIXELS)
    Image.fromarray(np.concatenate([PIXELS[:, :, :1], alpha], axis=2)).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), np.repeat(PIXELS[:, :, :1], 3, axis=2))


def test_a_palette_with_transparency_gives_the_palette_s_colours(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2))
    image.putdata(list(range(6)))
    colours = RNG.integers(0, 256, (6, 3), dtype=np.uint8)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "a.png", transparency=bytes([0, 0, 128, 255, 255, 255]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours.reshape(2, 3, 3))


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif"), np.full((3, 4, 3), (255, 0, 0)))


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_257(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 257 * 77, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}")[0, :, 1], np.rint(values[0] / 257))


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif: floating-point pixels"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.9])
def test_a_cut_file_is_an_error_and_never_filled_up(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError, match=f"a.{suffix}: "):
        read_image(path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_png_with_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png: "):
        read_image(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (1000, 1000)).save(path)
    with pytest.raises(ImageError, match=r"1000x1000 is above the limit of 999999 pixels.*data\.max_pixels="):
        read_image(path, max_pixels=999_999)
    with pytest.raises(ImageError, match="above the limit"):
        decode_image(Image.new("1", (1000, 1000)), max_pixels=999_999)
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4)
    with pytest.raises(ImageError, match="pixels"):
        read_image(path)


@pytest.mark.parametrize("make", ["folder", "pipe", "nothing", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, make: str) -> None:
    path = tmp_path / "a.jpg"
    if make == "folder":
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    elif make == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(ImageError, match=r"a\.jpg: (not a regular file|no such picture)"):
        read_image(path)


def test_a_link_out_of_the_root_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "secret.png")
    Image.fromarray(PIXELS).save(root / "inside.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "in.png").symlink_to(root / "inside.png")
    with pytest.raises(ImageError, match=r"out\.png: leads out of"):
        read_image(root / "out.png", root=root)
    with pytest.raises(ImageError, match="leads out of"):
        read_image(root / ".." / "secret.png", root=root)
    assert read_image(root / "in.png", root=root).shape == (6, 9, 3)
    (tmp_path / "linked").symlink_to(root)
    assert read_image(tmp_path / "linked" / "inside.png", root=tmp_path / "linked").shape == (6, 9, 3)


def test_postscript_is_never_opened(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="not an image"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_very_thin_pictures_load(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (size[1], size[0], 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_a_large_picture_is_converted_in_strips_to_the_same_pixels(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    whole = decode_image(image)
    monkeypatch.setattr(images, "_STRIP_PIXELS", 20)  # two rows of the picture
    np.testing.assert_array_equal(decode_image(image), whole)


def test_a_callers_image_is_decoded_by_the_same_rules_and_left_unchanged(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=_exif(8))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(decode_image(image), _turned(PIXELS, 8))
        assert image.size == (9, 6)
    np.testing.assert_array_equal(decode_image(Image.fromarray(PIXELS)), PIXELS)
    with pytest.raises(ImageError, match="image: floating-point"):
        decode_image(Image.new("F", (2, 2)))


ODD_IMAGES = {
    "color.jpg": (300, 400),
    "color_exif.jpg": (400, 300),
    "grayscale.jpg": (300, 400),
    "grayscale_dim3.jpg": (300, 400),
    "gray_alpha.png": (400, 500),
    "palette.gif": (300, 400),
    "uint16-5channel.tif": "not an image",
    "truncated.jpg": "cut short",
    "png_named.jpg": (60, 80),
    "cmyk.jpg": (120, 160),
    "rgba.png": (120, 160),
    "empty.jpg": "not an image",
    "text_named.jpg": "not an image",
}


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_every_odd_image_has_its_stated_outcome(test_data: Path, name: str) -> None:
    path = test_data / "extra" / "odd_images" / name
    outcome = ODD_IMAGES[name]
    if isinstance(outcome, str):
        with pytest.raises(ImageError, match=f"{name}: .*{outcome}"):
            read_image(path)
    else:
        assert read_image(path).shape == (*outcome, 3)
        assert image_size(path) == outcome


def test_single_channel_jpegs_of_raccoon_load_as_three_equal_channels(test_data: Path) -> None:
    for number in (150, 152, 161):
        image = read_image(test_data / "raccoon" / "JPEGImages" / f"raccoon-{number}.jpg")
        assert (image == image[:, :, :1]).all()


@pytest.mark.parametrize(("kind", "suffix"), [("AVIF", ".avif"), ("JPEG2000", ".jp2")])
def test_kinds_that_pillow_reads_are_read_and_named_where_it_does_not(
    kind: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "named.jpg"
    exif = {"exif": _exif(6)} if kind == "AVIF" else {}
    if kind in FORMATS:
        assert suffix in SUFFIXES
        Image.new("RGB", (60, 40), (200, 40, 40)).save(path, kind, **exif)
        pixels = read_image(path)
        assert pixels.shape == ((60, 40, 3) if exif else (40, 60, 3)) and image_size(path) == pixels.shape[:2]
        assert np.abs(pixels.astype(int) - (200, 40, 40)).max() < 8
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(ImageError, match=r"cut short or damaged|damaged at its start"):
            read_image(path)
    starts = {"AVIF": b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "JPEG2000": b"\0\0\0\x0cjP  \r\n\x87\n"}
    path.write_bytes(starts[kind] + bytes(90))
    monkeypatch.setattr(images, "FORMATS", ("JPEG", "PNG"))
    with pytest.raises(ImageError, match=r"named\.jpg: (AVIF|JPEG 2000), which is not read; .*convert it with `"):
        read_image(path)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0heic", "HEIC"),
        (b"\xff\x0a\xf8\x6f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"<svg xmlns=", "SVG"),
    ],
)
def test_a_kind_that_is_not_read_is_named_by_content_with_its_conversion(
    head: bytes, name: str, tmp_path: Path
) -> None:
    (tmp_path / "phone.jpg").write_bytes(head + bytes(200))
    with pytest.raises(ImageError, match=rf"phone\.jpg: {name}, which is not read; \w+ it "):
        read_image(tmp_path / "phone.jpg")
