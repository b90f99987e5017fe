"""Crops, policies and mixing of classification; the evaluation's centre crop beside torchvision's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.v2 import _auto_augment

from mbvision.data.base import Reader
from mbvision.data.collate import collate
from mbvision.data.sampling import DrawDataset, EpochSampler
from mbvision.data.transforms.classification import RandomResizedCrop, classification_train
from mbvision.data.transforms.evaluation import ResizeTransform, fit_image
from mbvision.data.transforms.mixing import Mixing
from mbvision.engine.data_module import ResumableLoader
from mbvision.errors import ConfigError
from mbvision.structures import Batch, Geometry, LabelAnnotations, Sample, Target

IMAGE = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)


def sample(image: np.ndarray = IMAGE, label: int | None = 1) -> Sample:
    height, width = image.shape[:2]
    return Sample(image=image, target=Target(image_id=1, geometry=Geometry(original=(height, width)), label=label))


@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (256, 256), (100, 517), (231, 30), (224, 224)])
@pytest.mark.parametrize(("crop", "resize"), [(224, 256), (224, 232), (64, 73)])
def test_the_centre_is_torchvisions_to_the_last_bit(shape: tuple[int, int], crop: int, resize: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found, _ = fit_image(image, (crop, crop), "crop", crop / resize)
    preset = ImageClassification(crop_size=crop, resize_size=resize, mean=(0, 0, 0), std=(1, 1, 1))
    expected = (preset(Image.fromarray(image)) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.tuples(st.integers(32, 200), st.integers(32, 200)),
    fraction=st.floats(0.4, 1.0),
)
def test_a_crop_fills_the_input_and_maps_back(height: int, width: int, size: tuple[int, int], fraction: float) -> None:
    found, geometry = fit_image(np.zeros((height, width, 3), np.uint8), size, "crop", fraction)
    assert found.shape == (*size, 3)
    whole = torch.tensor([[0.0, 0.0, size[1], size[0]]])
    x1, y1, x2, y2 = geometry.to_original(whole)[0].tolist()
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    slack = 1.5 / min(geometry.scale)  # of rounding the middle to whole pixels
    assert abs(x1 - (width - x2)) <= slack and abs(y1 - (height - y2)) <= slack


def test_boxes_of_a_cropped_picture_map_back() -> None:
    boxes = torch.tensor([[30.0, 20.0, 50.0, 40.0]])
    target = Target(
        image_id=1, geometry=Geometry(original=(61, 83)), boxes=boxes, box_labels=torch.zeros(1, dtype=torch.int64)
    )
    out = ResizeTransform(size=(32, 32), fit="crop")(Sample(image=IMAGE, target=target), 0)
    assert out.target.boxes is not None
    torch.testing.assert_close(out.target.geometry.to_original(out.target.boxes).float(), boxes, atol=1e-4, rtol=0)


@pytest.mark.parametrize("fraction", [0.0, 1.1])
def test_a_senseless_crop_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="crop_fraction="):
        ResizeTransform(size=(32, 32), fit="crop", crop_fraction=fraction)


def drawn_crops(height: int, width: int, count: int = 1500) -> np.ndarray:
    """Left, top, width and height of crops in pixels."""
    crop = RandomResizedCrop(size=(32, 32), min_area=0.08, max_ratio=4 / 3)
    crop.set_random_seed(0)
    windows = np.array([crop.draw((height, width), np.zeros((0, 4))) for _ in range(count)])
    assert windows.min() >= 0 and windows.max() <= 1 + 1e-9
    return np.concatenate([windows[:, :2], windows[:, 2:] - windows[:, :2]], axis=1) * [width, height, width, height]


@pytest.mark.parametrize(("height", "width"), [(610, 830), (640, 480)])
def test_random_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    found = drawn_crops(height, width)
    picture = torch.empty(1, height, width)
    torch.manual_seed(0)
    draws = [v1.RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)]
    theirs = np.array(draws)[:, [1, 0, 3, 2]].astype(float)
    ratio, area = found[:, 2] / found[:, 3], found[:, 2] * found[:, 3] / (height * width)
    assert ratio.min() >= 0.75 - 1e-9 and ratio.max() <= 4 / 3 + 1e-9 and area.min() >= 0.08 - 1e-9
    for ours, other in zip([*found.T, ratio, area], [*theirs.T, *ratio_and_area(theirs, height * width)], strict=True):
        spread = other.std()
        assert abs(ours.mean() - other.mean()) < 0.13 * spread  # three and a half times the error of the difference
        assert abs(ours.std() - spread) < 0.1 * spread


def ratio_and_area(crops: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    return crops[:, 2] / crops[:, 3], crops[:, 2] * crops[:, 3] / pixels


@pytest.mark.parametrize(("height", "width"), [(400, 20), (7, 300)])
def test_of_a_very_long_picture_the_middle_is_taken_as_torchvision_does(height: int, width: int) -> None:
    picture = torch.empty(1, height, width)
    top, left, high, wide = v1.RandomResizedCrop.get_params(picture, [0.9, 1.0], [3 / 4, 4 / 3])
    crop = RandomResizedCrop(size=(32, 32), min_area=0.9, max_ratio=4 / 3)
    crop.set_random_seed(0)
    window = crop.draw((height, width), np.zeros((0, 4))) * [width, height, width, height]
    np.testing.assert_allclose(window, [left, top, left + wide, top + high], atol=1.0)


@pytest.mark.parametrize("policy", [None, "randaugment", "trivialaugment", "autoaugment"])
def test_a_sample_and_its_seed_give_one_result_and_leave_torchs_numbers_alone(policy: str | None) -> None:
    transform = classification_train(size=(32, 48), colour=True, policy=policy, erase=0.5)  # type: ignore[arg-type]  # parametrised
    before = torch.get_rng_state()
    first = [transform(sample(), seed) for seed in (1, 2**64 - 1, 3)]
    torch.rand(3)
    torch.set_rng_state(before)
    again = [transform(sample(), seed) for seed in (1, 2**64 - 1, 3)]
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.image.shape == (32, 48, 3) and one.image.dtype == np.uint8 and one.target.label == 1
    assert not np.array_equal(first[0].image, first[1].image)


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment", "autoaugment"])
def test_policies_interpolate_and_fill_as_torchvisions_references(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, object]] = []
    for name in ("affine", "rotate"):
        original = getattr(_auto_augment.F, name)

        def noted(*arguments: object, original: Callable[..., object] = original, **keys: object) -> object:
            calls.append((keys["interpolation"], keys["fill"]))
            return original(*arguments, **keys)

        monkeypatch.setattr(_auto_augment.F, name, noted)
    transform = classification_train(size=(32, 48), policy=policy)  # type: ignore[arg-type]  # parametrised
    for seed in range(40):
        transform(sample(), seed)
    # ClassificationPresetTrain gives the policies its interpolation, bilinear, and no fill.
    assert calls and all(call == (InterpolationMode.BILINEAR, None) for call in calls)


def test_erasing_fills_one_rectangle_with_grey() -> None:
    plain = classification_train(size=(64, 64), flip=0.0)
    erased = classification_train(size=(64, 64), flip=0.0, erase=1.0)
    changed = (plain(sample(), 5).image != erased(sample(), 5).image).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    patch = erased(sample(), 5).image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (patch == (124, 116, 104)).all() and 0.02 < changed.mean() < 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"erase": 2.0}, r"transform\.train\.erase=2\.0: a probability"),
        ({"min_area": 0.0}, r"min_area=0\.0"),
        ({"max_ratio": 0.5}, r"max_ratio=0\.5 at least 1"),
        ({"policy": "augmix"}, "policy=augmix: choose randaugment, trivialaugment, autoaugment, or null"),
        ({"policy": "randaugment", "magnitude": 31}, "magnitude=31"),
    ],
)
def test_senseless_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        classification_train(size=(32, 32), **arguments)  # type: ignore[arg-type]  # wrong on purpose


def flat(value: int, label: int | None) -> Sample:
    return sample(np.full((8, 8, 3), value, dtype=np.uint8), label)


def test_mixup_blends_pictures_and_labels_by_one_share() -> None:
    batch = [flat(0, 0), flat(100, 1), flat(200, 2)]
    mixed = Mixing(num_classes=4, mixup=1.0)(batch, 3)
    shares = torch.stack([one.target.label_shares for one in mixed if one.target.label_shares is not None])
    share = float(shares[1, 1])
    assert 0 < share < 1
    for place, one in enumerate(mixed):
        own, before = batch[place], batch[place - 1]
        blend = share * float(own.image[0, 0, 0]) + (1 - share) * float(before.image[0, 0, 0])
        assert np.abs(one.image - blend).max() <= 0.5 + 1e-4 and one.target.label is None
        expected = torch.zeros(4)
        expected[place], expected[place - 1 if place else 2] = share, 1 - share
        torch.testing.assert_close(shares[place], expected)


def test_cutmix_pastes_a_rectangle_and_shares_labels_by_its_area() -> None:
    for seed in range(10):
        mixed = Mixing(num_classes=2, cutmix=1.0)([flat(0, 0), flat(200, 1)], seed)
        assert mixed[0].target.label_shares is not None
        pasted = (mixed[0].image[..., 0] == 200).mean()
        assert set(np.unique(mixed[0].image)) <= {0, 200}
        torch.testing.assert_close(mixed[0].target.label_shares, torch.tensor([1 - pasted, pasted]).float())


def test_pictures_without_a_label_and_single_ones_are_left_alone() -> None:
    batch = [flat(10, None), flat(0, 0), flat(20, None), flat(200, 1)]
    mixed = Mixing(num_classes=2, mixup=1.0)(batch, 0)
    assert mixed[0] is batch[0] and mixed[2] is batch[2]
    assert mixed[1].target.label_shares is not None and mixed[3].target.label_shares is not None
    assert Mixing(num_classes=2, mixup=1.0)(batch[:3], 0) == batch[:3]
    assert Mixing(num_classes=2)(batch, 0) == batch


def test_with_both_each_batch_gets_one_of_them() -> None:
    mixing = Mixing(num_classes=2, mixup=1.0, cutmix=1.0)
    kinds = [set(np.unique(mixing([flat(0, 0), flat(200, 1)], seed)[0].image)) <= {0, 200} for seed in range(40)]
    assert 8 < sum(kinds) < 32


class Numbers(Reader):
    """Pictures of noise, with the labels 0, 1, 2, 0, ..."""

    def __init__(self) -> None:
        self.class_names = {"classification": ("a", "b", "c")}

    def __len__(self) -> int:
        return 11

    @property
    def truth(self) -> dict[str, LabelAnnotations]:
        labels = np.arange(11) % 3
        return {
            "classification": LabelAnnotations(class_names=("a", "b", "c"), image_ids=tuple(range(11)), labels=labels)
        }

    def path(self, index: int) -> Path:
        return Path(str(index))

    def read(self, index: int) -> Sample:
        image = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        target = Target(image_id=index, geometry=Geometry(original=(40, 40)), label=index % 3)
        return Sample(image=image, target=target)


def batches(workers: int, *, epoch: int = 0, start: int = 0) -> list[Batch]:
    dataset = DrawDataset(
        reader=Numbers(),
        transform=classification_train(size=(32, 32), policy="trivialaugment", erase=0.2),
        seed=5,
        shuffle=True,
        mix=Mixing(num_classes=3, mixup=0.2, cutmix=1.0),
    )
    sampler = EpochSampler(length=11)
    sampler.go_to(epoch, start)
    return list(
        ResumableLoader(sampler=sampler, dataset=dataset, batch_size=4, collate_fn=collate, num_workers=workers)
    )


def assert_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.images, other.images)
        for a, b in zip(one.targets, other.targets, strict=True):
            assert a.image_id == b.image_id and a.label_shares is not None and b.label_shares is not None
            assert torch.equal(a.label_shares, b.label_shares)


def test_mixed_batches_are_the_same_for_any_number_of_workers_and_after_a_restart() -> None:
    whole = batches(0)
    torch.manual_seed(99)  # the state of the process plays no part
    for workers in (1, 2):
        assert_equal(batches(workers), whole)
    assert_equal(batches(0, start=4), whole[1:])
    other = batches(0, epoch=1)
    assert not torch.equal(other[0].images, whole[0].images)


def test_the_interpolation_is_antialiased() -> None:
    """A chessboard of single pixels, shrunk to a quarter, is an even grey; without averaging it would flicker."""
    board = np.indices((128, 128)).sum(axis=0)[:, :, None].repeat(3, axis=2).astype(np.uint8) % 2 * 255
    found, _ = fit_image(board.astype(np.uint8), (32, 32), "crop", 1.0)
    expected = functional.resize(Image.fromarray(board.astype(np.uint8)), [32])
    np.testing.assert_array_equal(found, np.asarray(expected))
    assert np.abs(found.astype(int) - 127).max() <= 2
