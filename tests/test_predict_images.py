"""Folders of images through ``predict``: a few at a time, with the files that each image on its own gets."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mbvision
from mbvision.commands import predict, predict_images, run
from mbvision.inference.predictor import AT_ONCE, Predictor
from tests.tiny_checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("segmenter") / "a.ckpt", "task=lraspp")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the network got at a time."""
    counts: list[int] = []
    computed = Predictor._predict

    def counted(self: Predictor, images: Sequence[np.ndarray], *others: object) -> object:
        counts.append(len(images))
        return computed(self, images, *others)  # type: ignore[arg-type]  # as it is called

    monkeypatch.setattr(Predictor, "_predict", counted)
    return counts


def write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")


def test_a_folder_goes_through_the_network_in_batches_with_every_result_in_its_place(
    segmenter: Path, tmp_path: Path, asked: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path / "images", AT_ONCE + 3)
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    arguments = [f"checkpoint={segmenter}", f"source={tmp_path / 'images'}", f"output={tmp_path / 'out'}"]
    with caplog.at_level(logging.WARNING):
        assert run(predict.main, [*arguments, "save=[masks,json]", "runtime=torch"]) == 3
    assert asked == [AT_ONCE, 2]
    assert len([message for message in caplog.messages if "skipped" in message and "1.png" in message]) == 1
    model = mbvision.load(segmenter, device="cpu")
    for seed in (0, 2, AT_ONCE, AT_ONCE + 2):
        mask = model.predict(tmp_path / "images" / f"{seed}.png").mask
        written = np.array(Image.open(tmp_path / "out" / f"{seed}.png"))
        assert mask is not None
        assert written.shape == (40 + seed, 60)
        assert (written == mask).mean() > 0.999  # of a batch sums may be rounded otherwise
        assert f"{seed}.png" in (tmp_path / "out" / f"{seed}.json").read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "1.png").exists()


def test_large_images_are_few_at_a_time(
    segmenter: Path, tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images", 5)
    monkeypatch.setattr(predict_images, "MAX_PIXELS_AT_ONCE", 2 * 42 * 60)
    arguments = [f"checkpoint={segmenter}", f"source={tmp_path / 'images'}", f"output={tmp_path / 'out'}"]
    assert run(predict.main, [*arguments, "runtime=torch"]) == 0
    assert asked == [2, 1, 1, 1]  # of 2400, 2460, 2520, 2580 and 2640 pixels
    assert {path.name for path in (tmp_path / "out").glob("*.jpg")} == {f"{seed}.jpg" for seed in range(5)}
