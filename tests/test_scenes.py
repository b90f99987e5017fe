"""The built-in scenes: reproducible, varied as promised, and valid in both official layouts."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mbvision.data.cityscapes import cityscapes
from mbvision.data.coco import coco, load_coco
from mbvision.data.coco_masks import coco_masks
from mbvision.data.joint import JointReader
from mbvision.data.scenes import make_scenes, scenes, scenes_masks
from mbvision.data.scenes_drawing import CLASSES, Scene, class_names, draw_scene
from mbvision.data.scenes_layouts import segmentation
from mbvision.data.voc import load_voc
from mbvision.errors import DataError

SMALL = {"train_images": 12, "val_images": 6}


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return [draw_scene(seed) for seed in range(250)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "scenes"
    make_scenes(folder, **SMALL)
    return folder


def objects(drawn: list[Scene]) -> Iterator[tuple[Scene, int]]:
    for scene in drawn:
        for index, thing in enumerate(scene.objects):
            if not thing.crowd:
                yield scene, index


def test_a_seed_always_gives_the_same_scene() -> None:
    one, again, other = draw_scene(3), draw_scene(3), draw_scene(4)
    assert np.array_equal(one.image, again.image) and one.objects == again.objects
    assert one.image.shape != other.image.shape or not np.array_equal(one.image, other.image)


def test_boxes_and_areas_are_those_of_the_visible_pixels(drawn: list[Scene]) -> None:
    for scene in drawn:
        for index, thing in enumerate(scene.objects):
            rows, columns = np.nonzero(scene.instances == index + 1)
            assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert thing.area == len(rows)


def test_the_scenes_are_as_varied_as_promised(drawn: list[Scene]) -> None:
    things = [(scene, scene.objects[index]) for scene, index in objects(drawn)]
    sides = np.array(
        [[(t.box[2] - t.box[0]) / s.image.shape[1], (t.box[3] - t.box[1]) / s.image.shape[0]] for s, t in things]
    )
    counts = [sum(not t.crowd for t in s.objects) for s in drawn]
    assert len(CLASSES) >= 6 and {t.label for _, t in things} == set(range(len(CLASSES)))
    assert sides.min() >= 0.06 and 0.5 < sides.max() <= 0.6
    assert np.mean([t.area < 32**2 for _, t in things]) >= 0.2
    assert min(counts) == 0 and max(counts) <= 10 and max(counts) >= 8
    assert np.mean([not s.objects for s in drawn]) >= 0.08  # 10 % of a large set
    assert np.mean([t.truncated or t.occluded for _, t in things]) >= 0.25
    assert any(t.crowd for s in drawn for t in s.objects)
    assert len({s.image.shape for s in drawn}) >= 3


def test_some_classes_differ_by_texture_alone() -> None:
    shapes = [c.shape for c in CLASSES]
    assert len(set(shapes)) >= 5 and len(set(shapes)) < len(shapes)


def test_training_and_validation_have_no_picture_in_common(root: Path) -> None:
    train = {path.read_bytes() for path in (root / "train2017").iterdir()}
    val = {path.read_bytes() for path in (root / "val2017").iterdir()}
    assert len(train) == 12 and len(val) == 6 and not train & val


def test_pycocotools_reads_the_set_and_its_masks(root: Path) -> None:
    truth = COCO(str(root / "annotations" / "instances_train2017.json"))
    assert [c["id"] for c in truth.loadCats(truth.getCatIds())] == [c.category_id for c in CLASSES]
    for annotation in truth.loadAnns(truth.getAnnIds()):
        mask = truth.annToMask(annotation)
        x, y, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max() + 1, rows.max() + 1) == (x + width, y + height)
        assert rle.area(truth.annToRLE(annotation)) == annotation["area"]


def test_polygons_enclose_exactly_the_visible_pixels(drawn: list[Scene]) -> None:
    for scene, index in objects(drawn[:60]):
        mask = scene.instances == index + 1
        encoded = rle.merge(rle.frPyObjects(segmentation(scene, index), *mask.shape))
        assert np.array_equal(rle.decode(encoded), mask)


def test_run_lengths_decode_to_the_crowd(drawn: list[Scene]) -> None:
    scene, index = next((s, i) for s in drawn for i, thing in enumerate(s.objects) if thing.crowd)
    mask = scene.instances == index + 1
    runs = rle.frPyObjects(segmentation(scene, index), *mask.shape)
    assert np.array_equal(rle.decode(runs), mask)


def test_both_layouts_hold_the_same_boxes(root: Path) -> None:
    from_json = load_coco(root / "annotations" / "instances_val2017.json")
    from_xml = load_voc(root / "VOCdevkit" / "VOC2012", "val")
    assert [f"{i:012d}" for i in from_json.image_ids] == list(from_xml.image_ids)
    for index in range(len(from_json)):
        one, other = from_json.training_boxes(index), from_xml.training_boxes(index)
        assert one[0].tolist() == other[0].tolist()
        assert [from_json.class_names[i] for i in one[1]] == [from_xml.class_names[i] for i in other[1]]


def test_a_set_is_made_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    make_scenes(root, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert capsys.readouterr().out == ""
    assert len(coco(root=str(root), split="train2017")) == 12


def test_another_set_or_foreign_files_are_never_touched(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"other scenes.*data\.root="):
        scenes(root=str(root), split="train2017")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="something else"):
        make_scenes(tmp_path, **SMALL)
    with pytest.raises(DataError, match="something else"):
        make_scenes(tmp_path / "mine.txt", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_stamp_is_named(tmp_path: Path) -> None:
    (tmp_path / "scenes.json").write_text("{")
    with pytest.raises(DataError, match=r"scenes\.json is damaged"):
        make_scenes(tmp_path, **SMALL)


def test_the_statistics_are_kept(root: Path) -> None:
    statistics = json.loads((root / "statistics.json").read_text())
    assert statistics["train2017"]["pictures"] == 12 and statistics["val2017"]["pictures"] == 6


CITYSCAPES_NAMES = ("road", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


@pytest.fixture
def whole_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mbvision.data.scenes.make_scenes", lambda folder: make_scenes(folder, **SMALL))
    return root


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_masks_are_the_outlines_of_the_same_scenes(whole_set: Path, split: str) -> None:
    truth = COCO(str(whole_set / "annotations" / f"instances_{split}.json"))
    reader = scenes_masks(root=str(whole_set), split=split)
    label_of = {scene_class.category_id: label for label, scene_class in enumerate(CLASSES, start=1)}
    assert reader.class_names["segmentation"] == ("background", *class_names)
    for index, image_id in enumerate(sorted(truth.getImgIds())):
        objects = truth.loadAnns(truth.getAnnIds(image_id))
        expected = np.zeros(reader.mask(index).shape, dtype=np.uint8)
        for thing in objects:
            expected[truth.annToMask(thing) > 0] = 255 if thing["iscrowd"] else label_of[thing["category_id"]]
        np.testing.assert_array_equal(reader.mask(index), expected)
        assert np.count_nonzero(reader.mask(index)) == sum(thing["area"] for thing in objects)
        assert reader.path(index) == whole_set / split / f"{image_id:012d}.jpg"
    drawn = coco_masks(root=whole_set, split=split, classes="all")
    assert all(np.array_equal(drawn.mask(i), reader.mask(i)) for i in range(len(reader)))


def test_the_cityscapes_tree_holds_the_same_masks(root: Path) -> None:
    for split in ("train", "val"):
        from_coco = coco_masks(root=root, split=f"{split}2017", classes="all")
        reader = cityscapes(root=root, split=split)
        places = [reader.class_names["segmentation"].index(name) for name in CITYSCAPES_NAMES]
        table = np.full(256, 255, dtype=np.uint8)
        table[: len(places)] = places
        for index in range(len(from_coco)):
            np.testing.assert_array_equal(reader.mask(index), table[from_coco.mask(index)])
            assert reader.path(index).read_bytes() == from_coco.path(index).read_bytes()
        assert len(reader) == len(from_coco)


def test_voc_masks_have_the_official_palette(root: Path) -> None:
    path = next((root / "VOCdevkit/VOC2012/SegmentationClass").iterdir())
    with Image.open(path) as image:
        palette = image.getpalette()
        assert image.mode == "P" and palette is not None
        assert palette[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] and palette[-3:] == [224, 224, 192]


def test_boxes_and_masks_of_the_scenes_are_of_the_same_pictures(whole_set: Path) -> None:
    boxes = scenes(root=str(whole_set), split="train2017")
    joint = JointReader(boxes=boxes, masks=scenes_masks(root=str(whole_set), split="train2017"))
    assert len(joint) == 12
    target = joint.read(0).target
    assert target.boxes is not None and target.mask is not None and target.image_id == 1


def test_scenes_of_the_version_without_masks_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "scenes.json").write_text(json.dumps({"version": 1, **SMALL, "seed": 0}))
    with pytest.raises(DataError, match="earlier version, which had no masks: remove that folder"):
        make_scenes(tmp_path, **SMALL)
