"""JPEG files: the pixels are Pillow's, and what libjpeg corrects in damaged data is reported."""

import io
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mbvision.data.images import read_image
from mbvision.errors import ImageError

NOISE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
SMOOTH = np.array(Image.fromarray(NOISE).resize((150, 101), Image.Resampling.BICUBIC))
KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
}


def _jpeg(pixels: np.ndarray = SMOOTH, mode: str = "RGB", kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, quality=80, **options)
    return buffer.getvalue()


def _written(folder: Path, content: bytes, name: str = "a.jpg") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_those_of_pillow(tmp_path: Path, kind: str, mode: str) -> None:
    content = _jpeg(mode=mode, **(KINDS[kind] if mode == "RGB" or ":" not in kind else {}))
    image = read_image(_written(tmp_path, content))
    np.testing.assert_array_equal(image, np.array(Image.open(io.BytesIO(content)).convert("RGB")))
    assert image.flags.writeable


def test_the_first_of_several_images_in_a_file_is_read(tmp_path: Path) -> None:
    other = Image.fromarray(SMOOTH[::-1].copy())
    content = _jpeg(kind="MPO", save_all=True, append_images=[other])
    np.testing.assert_array_equal(read_image(_written(tmp_path, content)), np.array(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_libjpeg_calls_corrupt_is_reported(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV has libjpeg too, which prints there what it corrects."""
    content, random = _jpeg(**KINDS[kind]), np.random.default_rng(3)
    scan = content.index(b"\xff\xda") + 14
    complaints = reported = 0
    for number in range(60):
        changed = bytearray(content)
        changed[random.integers(scan, len(content) - 2)] ^= 1 << int(random.integers(8))
        path = _written(tmp_path, bytes(changed), f"{number}.jpg")
        caplog.clear()
        try:
            read_image(path)
        except ImageError as error:
            assert path.name in str(error)
            reported += 1
        reported += any(path.name in record.getMessage() for record in caplog.records)
        cv2.imread(str(path))
        complaints += bool(capfd.readouterr().err)
    assert 3 <= complaints <= reported  # a file that OpenCV refuses without a word may be an error here


def test_damage_is_reported_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = _jpeg(SMOOTH)
    damaged = content[:-2] + b"\x12\x34\x56\xff\xd9"
    paths = [_written(tmp_path, damaged, name) for name in ("a.jpg", "b.jpg")]
    for path in (*paths, *paths):
        np.testing.assert_array_equal(read_image(path), np.array(Image.open(io.BytesIO(content))))
    first, second = (record.getMessage() for record in caplog.records)
    assert f"{paths[0]}: damaged (Corrupt JPEG data: 3 extraneous bytes before marker 0xd9)" in first
    assert str(paths[1]) in second
    assert int(second.split("; ")[1].split()[0]) == int(first.split("; ")[1].split()[0]) + 1


@pytest.mark.parametrize("height", [96, 97])
def test_missing_blocks_are_an_error(tmp_path: Path, height: int) -> None:
    """The first row of blocks of four loses its end; the others are whole, so the last row looks right."""
    content = _jpeg(SMOOTH[:height], restart_marker_rows=1, subsampling=0)
    first_marker = content.index(b"\xff\xd0")
    cut = content[: first_marker - 150] + content[first_marker:]
    with pytest.raises(
        ImageError, match=r"a\.jpg: cut short or damaged: some of its pixels are missing \(Corrupt JPEG"
    ):
        read_image(_written(tmp_path, cut))


def test_an_image_that_is_gray_is_not_taken_for_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gray = np.full((33, 41, 3), 128, dtype=np.uint8)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_image(_written(tmp_path, _jpeg(gray))), gray)
    assert not caplog.records
