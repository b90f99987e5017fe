"""What a file holds, before any file is written: outputs named and decoded, selection in the graph, any input size."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mbvision import checkpoint
from mbvision.boxes import select_detections
from mbvision.build import build_tasks
from mbvision.commands.compose import compose_config
from mbvision.deploy import wrap
from mbvision.deploy.about import description, metadata
from mbvision.deploy.any_size import AnySizePool
from mbvision.deploy.fold import folded
from mbvision.deploy.wrap import AnySizeAnchors, DeployedNetwork
from mbvision.errors import CheckpointError, ConfigError
from mbvision.heads.anchors import Layout, SSDAnchors
from mbvision.heads.lraspp import LARGE_POOLS, LargePool
from tests.tiny_checkpoints import write_checkpoint


def deployed(folder: Path, task: str, **form: object) -> DeployedNetwork:
    few = ["tasks.detection.max_detections=50"] if "ssd" in task else []
    path = write_checkpoint(folder / "a.ckpt", f"task={task}", *few)
    network, tasks = checkpoint.load(path)
    return DeployedNetwork(network=folded(network), tasks=tasks, **form).eval()  # type: ignore[arg-type]  # by test


@pytest.mark.parametrize(
    ("task", "form", "names"),
    [
        ("ssdlite", {}, ["boxes", "scores"]),
        ("ssdlite", {"suppress": wrap.suppress}, ["boxes", "scores", "labels", "count"]),
        ("lraspp", {}, ["labels"]),
        ("deeplabv3", {"masks": "logits"}, ["logits"]),
        ("classification", {}, ["scores"]),
        ("[attributes,embedding]", {}, ["scores", "embedding"]),
        ("[ssdlite,lraspp]", {}, ["boxes", "scores", "labels"]),
        (
            "[ssdlite,lraspp]",
            {"suppress": wrap.suppress},
            ["boxes", "scores", "detection_labels", "count", "segmentation_labels"],
        ),
        ("[ssdlite,classification]", {}, ["boxes", "detection_scores", "classification_scores"]),
    ],
)
def test_outputs_have_the_names_that_programs_rely_on(
    task: str, form: dict[str, object], names: list[str], tmp_path: Path
) -> None:
    network = deployed(tmp_path, task, **form)
    assert network.output_names == names
    assert len(network(torch.rand(2, 3, 64, 64))) == len(names)


def test_selection_in_the_graph_is_that_of_the_network(tmp_path: Path) -> None:
    network = deployed(tmp_path, "ssdlite", suppress=wrap.suppress)
    task = network.tasks["detection"]
    images = torch.rand(3, 3, 64, 96)
    with torch.inference_mode():
        boxes, scores, labels, count = network(images)
        expected = task.predict(network.network(images)["detection"], (64, 96))
    for row, found in enumerate(expected):
        number = int(count[row])
        assert number == len(found.boxes) == 50
        torch.testing.assert_close(boxes[row, :number], found.boxes, rtol=0, atol=1e-4)
        torch.testing.assert_close(scores[row, :number], found.scores)
        assert torch.equal(labels[row, :number], found.labels)


def crowd(objects: int, anchors_each: int) -> tuple[Tensor, Tensor]:
    """Boxes of one class side by side, each found by many anchors that overlap; those of the first have high scores."""
    place = torch.arange(objects).repeat_interleave(anchors_each)
    jitter = torch.linspace(0, 0.5, anchors_each).repeat(objects)
    left, top = 10.0 * (place % 6) + jitter, 10.0 * (place // 6) + jitter
    boxes = torch.stack([left, top, left + 8, top + 8], dim=1)
    scores = (0.9 - 0.02 * place - 0.0001 * torch.arange(len(place)) / anchors_each)[:, None]
    return boxes, torch.cat([torch.zeros_like(scores), scores], dim=1)


@pytest.mark.parametrize(
    ("task", "objects", "found"),
    # 12 anchors see each object: the 300 best candidates are those of 25 objects.
    [("ssdlite", 30, 30), ("ssd", 30, 30), ("ssdlite_tensorflow", 30, 30), ("ssdlite_torchvision", 30, 25)],
)
def test_each_variant_limits_a_class_where_its_source_does(task: str, objects: int, found: int) -> None:
    detection = build_tasks(compose_config("train", [f"task={task}"]))["detection"]
    boxes, scores = crowd(objects, anchors_each=12)
    limits = {"max_candidates": detection.max_candidates, "max_detections": detection.max_detections}
    limits |= {"max_detections_per_class": detection.max_detections_per_class}
    thresholds = {"score_threshold": detection.score_threshold, "nms_threshold": detection.nms_threshold}
    kept = select_detections(scores, boxes.__getitem__, **thresholds, **limits)[0]
    assert len(kept) == found
    in_graph = wrap.select(boxes[None].expand(2, -1, -1), scores[None].expand(2, -1, -1), detection, wrap.suppress)
    assert in_graph[3].tolist() == [found, found]
    assert torch.equal(in_graph[0][1, :found], kept)


def test_a_checkpoint_of_before_keeps_its_limit_of_candidates() -> None:
    node = compose_config("train", ["task=ssdlite"])["tasks"]["detection"]
    old = {key: value for key, value in node.items() if key not in ("max_candidates", "max_detections_per_class")}
    detection = build_tasks({"tasks": {"detection": {**old, "max_per_class": 7}}})["detection"]
    assert (detection.max_candidates, detection.max_detections_per_class) == (7, None)


def test_a_limit_after_suppression_holds_for_each_class_in_the_graph(tmp_path: Path) -> None:
    network = deployed(tmp_path, "ssdlite", suppress=wrap.suppress)
    task = network.tasks["detection"]
    task.max_detections_per_class = 3
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        labels, count = network(images)[2:]
        expected = task.predict(network.network(images)["detection"], (64, 64))
    for row, detections in enumerate(expected):
        assert labels[row, : count[row]].bincount().tolist() == [3] * 4
        assert torch.equal(labels[row, : count[row]], detections.labels)


def test_what_is_not_found_is_filled_up(tmp_path: Path) -> None:
    network = deployed(tmp_path, "ssdlite", suppress=wrap.suppress)
    network.tasks["detection"].score_threshold = 0.9
    boxes, scores, labels, count = network(torch.rand(1, 3, 64, 64))
    assert count.tolist() == [0] and not boxes.any() and not scores.any() and (labels == -1).all()


def test_raw_boxes_and_scores_select_to_the_networks_detections(tmp_path: Path) -> None:
    network = deployed(tmp_path, "ssdlite")
    task = network.tasks["detection"]
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        boxes, scores = network(images)
        (expected,) = task.predict(network.network(images)["detection"], (64, 96))
    found, values, labels = select_detections(
        scores[0],
        boxes[0].__getitem__,
        score_threshold=task.score_threshold,
        nms_threshold=task.nms_threshold,
        max_candidates=task.max_candidates,
        max_detections_per_class=task.max_detections_per_class,
        max_detections=task.max_detections,
    )
    torch.testing.assert_close(found, expected.boxes, rtol=0, atol=1e-4)
    torch.testing.assert_close(values, expected.scores)
    assert torch.equal(labels, expected.labels)


@pytest.mark.parametrize("layout", ["tensorflow", "torchvision"])
def test_anchors_of_any_size_are_those_of_each_size(layout: Layout) -> None:
    anchors = SSDAnchors(layout=layout)
    for sizes in ([(20, 20), (10, 10), (5, 5)], [(7, 9), (4, 5), (2, 3)]):
        like = torch.zeros(1)
        torch.testing.assert_close(AnySizeAnchors(like=anchors)(sizes, like), anchors(sizes, like), rtol=0, atol=1e-7)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_large_pool_of_any_size_is_that_of_each_size(stride: int) -> None:
    kernel, steps = LARGE_POOLS[stride]
    pool = LargePool(kernel=kernel, stride=steps)
    for height, width in ((1, 3), (kernel - 1, kernel), (kernel + 1, kernel + steps[1]), (2 * kernel, 3 * kernel + 5)):
        maps = torch.rand(2, 3, height, width)
        torch.testing.assert_close(AnySizePool(like=pool)(maps), pool(maps), rtol=1e-4, atol=1e-5)


def test_labels_are_uint8_of_the_inputs_size(tmp_path: Path) -> None:
    network = deployed(tmp_path, "lraspp")
    images = torch.rand(2, 3, 64, 96)
    (found,) = network(images)
    logits = network.network(images)["segmentation"].logits
    expected = torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear").argmax(dim=1)
    assert found.dtype == torch.uint8 and torch.equal(found.long(), expected)


def test_what_a_network_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nms=true is for detection; this network is for segmentation"):
        deployed(tmp_path, "lraspp", suppress=wrap.suppress)
    with pytest.raises(ConfigError, match="masks='colours': choose labels or logits"):
        deployed(tmp_path, "lraspp", masks="colours")


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.ckpt", "task=ssdlite", "tasks.detection.score_threshold=0.1")
    about = checkpoint.read(path)["mbvision"]
    names = [f"detection-{label}" for label in range(4)]
    text = metadata(about, (64, 96), stride=32, outputs=[("detection", "boxes")])
    assert (text["task"], json.loads(text["names"]), text["imgsz"]) == ("detection", names, "[64, 96]")
    assert (text["stride"], text["score_threshold"]) == ("32", "0.1")
    assert description(text, Path("a.onnx"))["class_names"] == about["class_names"]
    for wrong in ({"outputs": [["masks", "labels"]]}, {"input_size": ["64", 96]}):
        changed = json.dumps({**json.loads(text["mbvision"]), **wrong})
        with pytest.raises(CheckpointError, match=r"a\.onnx: its metadata do not fit together"):
            description({"mbvision": changed}, Path("a.onnx"))
    with pytest.raises(CheckpointError, match=r"a\.onnx.*config and class_names"):
        description({"mbvision": '{"outputs": [], "input_size": [1, 2]}'}, Path("a.onnx"))


@pytest.mark.parametrize("private", [None, "{", "[]", '{"outputs": 1}', "[" * 100_000])
def test_a_file_of_another_program_is_refused_by_name(private: str | None) -> None:
    with pytest.raises(CheckpointError, match=r"a\.onnx does not say how to use it"):
        description({} if private is None else {"mbvision": private}, Path("a.onnx"))
