"""Prediction: three lines of Python, boxes in the picture's own pixels, the same however the picture is given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mbvision
from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands.train import configure
from mbvision.data.transforms.window import resize
from mbvision.deploy.fold import folded
from mbvision.errors import CheckpointError, ConfigError, ImageError
from mbvision.inference import predictor
from mbvision.inference.predictor import Picture, Predictor, choose_device
from tests.test_ssdlite import randomise

NAMES = ["cat", "dog", "bird"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small detector with random weights, for a rectangular input."""
    arguments = ["backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=[64,96]"]
    config, _ = configure([*arguments, "tasks.detection.score_threshold=0.2"])
    network = build_network(config, {"detection": 3})
    randomise(network)
    file = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    checkpoint.write(file, {"state_dict": state, "mbvision": checkpoint.description(config, {"detection": NAMES})})
    return file


@pytest.fixture(scope="module")
def model(path: Path) -> Predictor:
    return mbvision.load(path, device="cpu")


def picture(height: int = 120, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_boxes_are_in_the_pictures_own_pixels(model: Predictor, path: Path) -> None:
    image = picture()
    result = model.predict(image)
    network, tasks = checkpoint.load(path)
    small = torch.from_numpy(resize(image, (64, 96))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = tasks["detection"].predict(network.eval()(small)["detection"], (64, 96))[0]
    scale = np.array([90 / 96, 120 / 64] * 2, dtype=np.float32)
    assert len(result.boxes) == len(expected.boxes) > 3
    np.testing.assert_allclose(result.boxes, expected.boxes.numpy() * scale, atol=1e-2)
    np.testing.assert_allclose(result.scores, expected.scores.numpy(), atol=1e-4)
    assert result.names == tuple(NAMES[label] for label in expected.labels.tolist())
    assert (result.width, result.height) == (90, 120)
    assert result.boxes.min() >= 0 and (result.boxes.max(axis=0) <= [90, 120, 90, 120]).all()


def test_a_path_a_pil_image_and_an_array_give_the_same(model: Predictor, tmp_path: Path) -> None:
    image = picture()
    Image.fromarray(image).save(tmp_path / "a.png")
    results = [model.predict(p) for p in (image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png"))]
    for result in results[1:]:
        assert np.array_equal(result.boxes, results[0].boxes) and np.array_equal(result.scores, results[0].scores)


def test_a_list_gives_a_list_of_pictures_of_any_sizes(model: Predictor) -> None:
    images = [picture(50, 70, 1), picture(130, 40, 2), picture(64, 96, 3)]
    for one, alone in zip(model.predict(images), [model.predict(image) for image in images], strict=True):
        assert len(one.boxes) == len(alone.boxes)
        np.testing.assert_allclose(one.scores, alone.scores, atol=1e-5)
    assert model.predict([]) == []


def test_a_long_list_goes_through_in_parts(model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[Picture] = [picture(50, 70, seed) for seed in range(5)]
    together, sizes, compute = model.predict(images), [], model.compute

    def counted(inputs: torch.Tensor) -> object:
        sizes.append(len(inputs))
        return compute(inputs)

    monkeypatch.setattr(model, "compute", counted)
    monkeypatch.setattr(predictor, "AT_ONCE", 2)
    for one, other in zip(model.predict(images), together, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert sizes == [2, 2, 1]


def test_json_names_every_detection(model: Predictor) -> None:
    result = model.predict(picture()).above(0.3)
    json = result.as_json("a.jpg")
    assert json["source"] == "a.jpg" and json["width"] == 90 and json["height"] == 120
    assert len(json["detections"]) == (result.scores >= 0.3).sum() == len(result.scores)
    first = json["detections"][0]
    assert set(first) == {"box", "score", "label", "name"} and first["name"] == NAMES[first["label"]]


def test_folding_batch_norm_changes_no_output(path: Path) -> None:
    network, _ = checkpoint.load(path)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected, found = network.eval()(images)["detection"], folded(network)(images)["detection"]
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.deltas, expected.deltas, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded(network).modules())


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), 7, None])
def test_what_is_no_picture_is_refused(model: Predictor, image: object) -> None:
    with pytest.raises(ImageError):
        model.predict(image)  # type: ignore[call-overload]  # wrong on purpose


def test_a_missing_picture_is_named(model: Predictor) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        model.predict("nowhere.jpg")


def test_a_missing_or_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt: there is no such"):
        mbvision.load(tmp_path / "nowhere.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.ckpt is not a checkpoint"):
        mbvision.load(tmp_path / "text.ckpt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match=r"plain\.ckpt is not a checkpoint of mbvision.*pretrained="):
        mbvision.load(tmp_path / "plain.ckpt")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="device=abacus"):
        choose_device("abacus")
