"""torchvision's model beside a network: the same numbers where it is the same network, its own elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mbvision
from mbvision import checkpoint
from mbvision.errors import CheckpointError
from mbvision.weights.peer import DetectorPeer, Peer, SegmenterPeer, find_peer
from tests.tiny_checkpoints import CLASSES, write_checkpoint

SIZE = (96, 128)
LARGE = (
    "backbone=mobilenet_v3_large",
    "backbone.width=1.0",
    "backbone.dilation_rule=torchvision",
    "input_size=[96,128]",
)


def pictures(width: int = 128, height: int = 96) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(2)]


def both(path: Path, *overrides: str) -> tuple[Any, Peer]:
    write_checkpoint(path, *overrides)
    network, tasks, about = checkpoint.rebuild(checkpoint.read(path), path)
    return network.eval(), find_peer(network, tasks, about["config"], SIZE)


def batch() -> torch.Tensor:
    stacked = np.stack([np.asarray(one) for one in pictures()])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255


def test_the_same_detector_gives_the_same_boxes(tmp_path: Path) -> None:
    halves = [f"normalize.{key}=[0.5,0.5,0.5]" for key in ("mean", "std")]
    network, peer = both(tmp_path / "a.ckpt", "task=ssdlite_torchvision", "backbone.reduced_tail=true", *halves, *LARGE)
    assert isinstance(peer, DetectorPeer) and peer.exact
    with torch.no_grad():
        expected = network(batch())["detection"]
    found = peer.compute(peer.inputs(pictures()))[0]
    torch.testing.assert_close(found["cls_logits"], expected.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["bbox_regression"], expected.deltas, rtol=1e-3, atol=1e-4)
    answers = peer.answers(peer.compute(peer.inputs(pictures(64, 48))))
    ours = mbvision.load(tmp_path / "a.ckpt", device="cpu")
    assert len(answers) == 2 and answers[0]["boxes"].amax(dim=0).tolist() <= [64, 48, 64, 48]
    assert len(ours.predict(pictures()[0]).boxes) > 0


def test_the_same_segmenter_gives_the_same_logits_and_labels_of_the_pictures_pixels(tmp_path: Path) -> None:
    network, peer = both(tmp_path / "a.ckpt", "task=lraspp_torchvision", "output_stride=16", *LARGE)
    assert isinstance(peer, SegmenterPeer) and peer.exact
    with torch.no_grad():
        expected = network(batch())["segmentation"].logits
    torch.testing.assert_close(peer.compute(peer.inputs(pictures()))[0], expected, rtol=1e-3, atol=1e-4)
    labels = peer.answers(peer.compute(peer.inputs(pictures(50, 70))))
    assert [one.shape for one in labels] == [(70, 50)] * 2 and labels[0].max() < CLASSES


def test_a_detector_of_its_own_gets_as_many_candidates_as_are_asked_for(tmp_path: Path) -> None:
    _, peer = both(tmp_path / "a.ckpt", "task=ssdlite", "input_size=[96,128]")
    assert isinstance(peer, DetectorPeer) and not peer.exact
    peer.set_candidates(pictures(), 200)
    logits = peer.compute(peer.inputs(pictures()))[0]["cls_logits"]
    over = (logits.softmax(dim=-1)[..., 1:] > peer.model.score_thresh).sum()
    assert abs(int(over) - 200) <= 20


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["task=[ssdlite,lraspp]"], "no model with the heads detection, segmentation"),
        (["task=ssdlite", "backbone=mobilenet_v1"], "no SSDLite like this on mobilenet_v1"),
        (["task=ssd"], "no SSDLite like this on mobilenet_v3_small"),
    ],
)
def test_what_torchvision_has_not_is_said(overrides: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"torchvision has {reason}"):
        both(tmp_path / "a.ckpt", *overrides)
