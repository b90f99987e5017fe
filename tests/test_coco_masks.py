import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mbvision.build import build_reader
from mbvision.commands.compose import compose_config
from mbvision.data.coco_masks import VOC_CATEGORIES, coco_masks
from mbvision.data.coco_runs import run_lengths, unpacked
from mbvision.data.masks import MaskReader
from mbvision.data.voc_masks import VOC_MASK_CLASSES
from mbvision.errors import AnnotationError, ConfigError, DataError

SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]
OFFICIAL = [{"id": number, "name": name} for number, name in VOC_CATEGORIES]


def _write(
    root: Path, annotations: list[dict[str, Any]], categories: list[dict[str, Any]] | None = None, size: Any = (20, 30)
) -> Path:
    (root / "train").mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(root / "train" / "a.png")
    document = {
        "images": [{"id": 5, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "categories": categories or [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"id": i, "image_id": 5, "bbox": [0, 0, 1, 1]} | a for i, a in enumerate(annotations, start=1)],
    }
    (root / "train.json").write_text(json.dumps(document))
    return root


def _brute_force(truth: COCO, image_id: int, label_of: dict[int, int], *, stacked: bool) -> np.ndarray:
    """Pixel by pixel over the masks that pycocotools makes of the file by itself."""
    record = truth.loadImgs(image_id)[0]
    objects = [a for a in truth.loadAnns(truth.getAnnIds(image_id)) if a["category_id"] in label_of]
    masks = [truth.annToMask(a) for a in objects]
    labels = np.zeros((record["height"], record["width"]), dtype=np.uint8)
    least = np.full(labels.shape, np.inf)  # pixels of the smallest object so far
    crowd = np.zeros(labels.shape, dtype=bool)
    count = np.zeros(labels.shape, dtype=int)
    for thing, mask in zip(objects, masks, strict=True):
        if thing["iscrowd"]:
            crowd |= mask > 0
            continue
        count += mask
        smallest = (mask > 0) & (mask.sum() <= least)
        least[smallest] = mask.sum()
        labels[smallest] = label_of[thing["category_id"]]
    labels[((count > 1) & (not stacked)) | crowd] = 255
    return labels


@pytest.mark.parametrize("classes", ["voc", "all"])
def test_masks_of_genuine_coco_are_those_of_pycocotools(test_data: Path, tmp_path: Path, classes: Any) -> None:
    file = test_data / "extra" / "coco_eval_val2014_100" / "instances_val2014_100.json"
    (tmp_path / "instances_val.json").symlink_to(file)
    truth = COCO(str(file))
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / truth.loadImgs(truth.getImgIds())[0]["file_name"]).touch()
    reader = coco_masks(root=tmp_path, split="val", classes=classes)
    order = [number for number, _ in VOC_CATEGORIES] if classes == "voc" else sorted(truth.getCatIds())
    label_of = {number: label for label, number in enumerate(order, start=1)}
    crowded = {a["image_id"] for a in truth.anns.values() if a["iscrowd"]}
    for index, image_id in enumerate(reader.annotations.image_ids):
        if index % 3 == 0 or image_id in crowded:
            expected = _brute_force(truth, int(image_id), label_of, stacked=classes == "all")
            np.testing.assert_array_equal(reader.mask(index), expected, err_msg=str(image_id))
    assert len(reader) == 100 and len(reader.class_names["segmentation"]) == (21 if classes == "voc" else 81)


def _torchvisions(truth: COCO, image_id: int, label_of: dict[int, int]) -> np.ndarray:
    """As ConvertCocoPolysToMask of torchvision's references/segmentation/coco_utils.py draws it: crowds are objects."""
    record = truth.loadImgs(image_id)[0]
    objects = [a for a in truth.loadAnns(truth.getAnnIds(image_id)) if a["category_id"] in label_of]
    masks = np.array([truth.annToMask(a) for a in objects]).reshape(-1, record["height"], record["width"])
    categories = np.array([label_of[a["category_id"]] for a in objects]).reshape(-1, 1, 1)
    labels = (masks * categories).max(axis=0, initial=0).astype(np.uint8)
    labels[masks.sum(axis=0) > 1] = 255
    return labels


def test_crowds_and_small_images_are_treated_as_torchvision_does_on_request(
    test_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = test_data / "extra" / "coco_eval_val2014_100" / "instances_val2014_100.json"
    (tmp_path / "instances_train.json").symlink_to(file)
    truth = COCO(str(file))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / truth.loadImgs(truth.getImgIds())[0]["file_name"]).touch()
    overrides = ["data=coco", f"data.root={tmp_path}", "data.train_split=train", "data.val_split=train"]
    keys = ["crowds=train", "min_area=1000", "classes=voc"]
    overrides += ["task=lraspp", *(f"data.readers.segmentation.{key}" for key in keys)]
    data = compose_config("train", overrides)["data"]
    with caplog.at_level(logging.INFO):
        reader = build_reader(data, "train_split", tasks=["segmentation"])
    label_of = {number: label for label, (number, _) in enumerate(VOC_CATEGORIES, start=1)}
    area = dict.fromkeys(truth.getImgIds(), 0.0)
    for thing in truth.anns.values():
        area[thing["image_id"]] += thing["area"] * (thing["category_id"] in label_of)
    large = [image_id for image_id in truth.imgs if area[image_id] > 1000]
    assert isinstance(reader, MaskReader) and list(reader.annotations.image_ids) == large and 0 < len(large) < 100
    assert f"{100 - len(large)} of 100 images are left out" in caplog.text
    crowded = {a["image_id"] for a in truth.anns.values() if a["iscrowd"] and a["category_id"] in label_of}
    assert crowded & set(large)
    for index, image_id in enumerate(large):
        if index % 5 == 0 or image_id in crowded:
            expected = _torchvisions(truth, image_id, label_of)
            np.testing.assert_array_equal(reader.mask(index), expected, err_msg=str(image_id))
    assert len(build_reader(data, "val_split", tasks=["segmentation"])) == 100  # what is scored is read whole


def test_a_set_of_small_objects_alone_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, [{"category_id": 3, "segmentation": SQUARE, "area": 36}])
    with pytest.raises(DataError, match=r"no image has objects of more than .*min_area=36"):
        coco_masks(root=tmp_path, split="train", classes="all", min_area=36)
    assert len(coco_masks(root=tmp_path, split="train", classes="all", min_area=35)) == 1
    keys = ["classes=all", "min_area=36"]
    overrides = ["data=coco", f"data.root={tmp_path}", "data.train_split=train", "data.val_split=train", "task=lraspp"]
    data = compose_config("train", [*overrides, *(f"data.readers.segmentation.{key}" for key in keys)])["data"]
    assert len(build_reader(data, "val_split", tasks=["segmentation"])) == 1  # what is scored is read whole
    with pytest.raises(DataError, match="min_area=36"):
        build_reader(data, "train_split", tasks=["segmentation"])


def test_the_voc_categories_are_torchvisions_in_vocs_order() -> None:
    assert [0, *(number for number, _ in VOC_CATEGORIES)] == [
        *(0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
    ]


def test_the_layout_is_read_with_its_pictures(test_data: Path) -> None:
    reader = coco_masks(root=test_data / "extra" / "coco2017_layout", split="train2017", classes="voc")
    sample = reader.read(0)
    assert len(reader) == 6 and reader.class_names["segmentation"] == VOC_MASK_CLASSES
    assert sample.target.mask is not None and tuple(sample.target.mask.shape) == sample.image.shape[:2]


def test_overlaps_and_crowds_are_ignored(tmp_path: Path) -> None:
    moved = [[value + 3 for value in SQUARE[0]]]
    runs = [0, 20, 20 * 29]  # the first column
    _write(
        tmp_path,
        [
            {"category_id": 5, "segmentation": SQUARE},
            {"category_id": 2, "segmentation": moved},
            {"category_id": 2, "iscrowd": 1, "segmentation": {"size": [20, 30], "counts": runs}},
        ],
        OFFICIAL,
    )
    mask = coco_masks(root=tmp_path, split="train", classes="voc").mask(0)
    assert (mask[:, 0] == 255).all() and (mask[2:8, 2:5] == 1).all() and (mask[8:11, 5:11] == 2).all()
    assert (mask[5:8, 5:8] == 255).all() and (mask == 255).sum() == 20 + 9
    mask = coco_masks(root=tmp_path, split="train", classes="voc", crowds="train").mask(0)
    assert (mask[:, 0] == 2).all() and (mask == 255).sum() == 9


@pytest.mark.parametrize("inner_first", [False, True])
def test_an_object_drawn_inside_another_is_seen_on_it(tmp_path: Path, inner_first: bool) -> None:
    person = {"category_id": 3, "segmentation": SQUARE}
    helmet = {"category_id": 9, "segmentation": [[4, 2, 6, 2, 6, 4, 4, 4]]}
    _write(tmp_path, [helmet, person] if inner_first else [person, helmet])
    mask = coco_masks(root=tmp_path, split="train").mask(0)
    assert (mask[2:4, 4:6] == 2).all() and (mask == 1).sum() == 36 - 4 and not (mask == 255).any()


def test_packed_and_plain_runs_draw_the_same(tmp_path: Path) -> None:
    pixels = np.asfortranarray(np.random.default_rng(0).random((20, 30)) < 0.3).astype(np.uint8)
    packed = rle.encode(pixels)["counts"].decode()
    _write(tmp_path, [{"category_id": 9, "segmentation": {"size": [20, 30], "counts": packed}}])
    np.testing.assert_array_equal(coco_masks(root=tmp_path, split="train", classes="all").mask(0), 2 * pixels)
    runs = unpacked(packed)
    assert runs is not None and sum(runs) == 600


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [20, 30], "counts": [0, 601]},
        {"size": [30, 20], "counts": [0, 600]},
        {"size": [20, 30], "counts": [-1, 601]},
        {"size": [20, 30], "counts": []},
        {"size": [20, 30], "counts": "é"},
        {"size": [20, 30], "counts": "oooo"},
        {"size": [20, 30], "counts": "o" * 100},
        {"size": [20, 30]},
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[0, 0, 9, 9, float("nan"), 4]],
        [[0, 0, 9, 9, float("inf"), 4]],
        [[0, 0, 1e9, 0, 5, 5]],
        [3, 4],
        [],
        None,
        "x",
    ],
)
def test_outlines_that_cannot_be_drawn_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, segmentation: Any
) -> None:
    _write(tmp_path, [{"category_id": 3, "segmentation": segmentation}, {"category_id": 9, "segmentation": SQUARE}])
    with caplog.at_level(logging.WARNING):
        reader = coco_masks(root=tmp_path, split="train", classes="all")
    assert "no outline that can be drawn and are left out of the masks: 1 (annotation ids 1)" in caplog.text
    assert set(reader.mask(0).ravel().tolist()) == {0, 2}


def test_a_polygon_of_texts_is_an_error_with_its_place(tmp_path: Path) -> None:
    _write(tmp_path, [{"category_id": 3, "segmentation": [["1", "2", "3", "4", "5", "6"]]}])
    with pytest.raises(AnnotationError, match=r"annotations\[0\]\.segmentation must hold numbers"):
        coco_masks(root=tmp_path, split="train", classes="all")


def test_the_voc_classes_need_cocos_categories(tmp_path: Path) -> None:
    _write(tmp_path, [])
    with pytest.raises(ConfigError, match=r"id 5 is not 'airplane' there; set .*classes=all"):
        coco_masks(root=tmp_path, split="train", classes="voc")
    with pytest.raises(ConfigError, match="choose voc or all"):
        coco_masks(root=tmp_path, split="train", classes="some")  # type: ignore[arg-type]  # a wrong value on purpose


def test_categories_that_voc_has_not_are_background(tmp_path: Path) -> None:
    categories = [*OFFICIAL, {"id": 90, "name": "toothbrush"}]
    _write(tmp_path, [{"category_id": 90, "segmentation": SQUARE}], categories)
    assert not coco_masks(root=tmp_path, split="train", classes="voc").mask(0).any()
    assert (coco_masks(root=tmp_path, split="train").mask(0)[2:8, 2:8] == 21).all()  # all categories by default


def test_a_size_that_the_picture_has_not_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, [], size=(20, 31))
    with pytest.raises(AnnotationError, match=r"a\.png: the picture is 30x20, its mask 31x20"):
        coco_masks(root=tmp_path, split="train", classes="all").read(0)
    _write(tmp_path, [], size=(10**9, 10**9))
    with pytest.raises(AnnotationError, match=r"above the limit of data\.max_pixels"):
        coco_masks(root=tmp_path, split="train", classes="all").read(0)


def test_run_lengths_must_fill_the_picture() -> None:
    assert run_lengths({"size": [2, 3], "counts": [1, 5]}, (2, 3)) == [1, 5]
    assert run_lengths({"size": [2, 3], "counts": [1, True, 4]}, (2, 3)) is None
