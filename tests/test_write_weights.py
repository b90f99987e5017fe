"""Our checkpoints as torchvision's and timm's files: they run there, and what they have no model for is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from mbvision import checkpoint
from mbvision.backbones.mobilenet_v3 import mobilenet_v3_small
from mbvision.build import build_network
from mbvision.commands import export, run
from mbvision.commands.compose import compose_config
from mbvision.errors import CheckpointError
from mbvision.weights import find_model
from tests.library_builds import blank, our_config, outputs
from tests.test_ssdlite import randomise


def write(name: str, path: Path, *, classes: int = 8, **changes: Any) -> dict[str, Any]:
    """A checkpoint of ours of one of the libraries' builds, with random weights; its configuration."""
    config: dict[str, Any] = dict.fromkeys(checkpoint.REBUILD_KEYS) | our_config(name)
    config["backbone"] = {**config["backbone"], **changes}
    (head,) = config["heads"]
    with blank():
        network = build_network(config, {head: classes})
    randomise(network.backbone)
    randomise(network.heads)
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    about = checkpoint.description(config, {head: [str(i) for i in range(classes)]})
    checkpoint.write(path, {"state_dict": state, "mbvision": about})
    return config


@pytest.mark.parametrize(
    ("name", "library", "changes", "call"),
    [
        ("mobilenet_v2_x0.5", "torchvision", {}, "torchvision.models.mobilenet_v2(num_classes=8, width_mult=0.5)"),
        ("mobilenetv1_125", "timm", {}, 'timm.create_model("mobilenetv1_125", num_classes=8)'),
        ("tf_mobilenetv3_small_075", "timm", {}, 'timm.create_model("tf_mobilenetv3_small_075", num_classes=8)'),
        (  # the paper's epsilon with torch's padding: neither of timm's own
            "mobilenet_v3_small",
            "timm",
            {},
            'timm.create_model("mobilenetv3_small_100", num_classes=8, bn_eps=0.001)',
        ),
        (
            "mobilenetv2_050",
            "timm",
            {"padding": "same"},
            "timm.create_model(\"mobilenetv2_050\", num_classes=8, pad_type='same')",
        ),
        (
            "tf_mobilenetv3_small_minimal_100",
            "timm",
            {"padding": "symmetric"},
            "timm.create_model(\"tf_mobilenetv3_small_minimal_100\", num_classes=8, pad_type='')",
        ),
    ],
)
@torch.no_grad()
def test_a_classifier_of_ours_runs_where_the_printed_line_builds_it(
    name: str, library: str, changes: dict[str, Any], call: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "best.ckpt", tmp_path / "theirs.pth"
    config = write(name, source, **changes)
    assert run(export.main, [f"checkpoint={source}", f"format={library}", f"output={target}"]) == 0
    printed = capsys.readouterr().out
    assert f"model = {call}\n" in printed
    mean, std = config["normalize"]["mean"], config["normalize"]["std"]
    assert f"(x - mean) / std with mean {mean}, std {std}" in printed
    names: dict[str, Any] = {"torchvision": torchvision, "timm": timm}
    model = eval(call, names)
    model.load_state_dict(torch.load(target, weights_only=True))
    network, _ = checkpoint.load(source)
    images = torch.rand(2, 3, 66, 95)
    expected = network.eval()(images)["classification"]
    found = model.eval()((images - network.mean) / network.std)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5 * max(expected.abs().max().item(), 1.0), rtol=0)


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("lraspp_mobilenet_v3_large", torchvision.models.segmentation.lraspp_mobilenet_v3_large),
        ("deeplabv3_mobilenet_v3_large_aux", torchvision.models.segmentation.deeplabv3_mobilenet_v3_large),
        ("ssdlite320_mobilenet_v3_large", torchvision.models.detection.ssdlite320_mobilenet_v3_large),
    ],
)
@torch.no_grad()
def test_a_segmenter_and_a_detector_of_ours_run_in_torchvision(
    name: str, builder: Callable[..., nn.Module], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "best.ckpt", tmp_path / "theirs.safetensors"
    write(name, source)
    assert run(export.main, [f"checkpoint={source}", "format=torchvision", f"output={target}"]) == 0
    printed = capsys.readouterr().out
    call = next(line for line in printed.splitlines() if line.startswith("model = ")).removeprefix("model = ")
    assert f".{builder.__name__}(weights=None, weights_backbone=None" in call
    model: Any = eval(call, {"torchvision": torchvision})
    model.load_state_dict(load_file(target))
    network, _ = checkpoint.load(source)
    images = torch.randn(1, 3, 96, 64)
    found = outputs(network.eval(), images)
    if "detection" in name or "ssdlite" in name:
        assert "num_classes=9" in call
        expected = model.eval().head(list(model.backbone(images).values()))
    else:
        expected = model.eval()(images)
    for key, one in found.items():
        torch.testing.assert_close(one, expected[key], atol=1e-5 * one.abs().max().item(), rtol=0)


REFUSED = [
    ("mobilenetv1_100", "torchvision", {}, "torchvision has no mobilenet_v1; it has mobilenet_v2"),
    ("mobilenetv2_100", "timm", {"width": 0.6}, "timm has no mobilenet_v2 of width 0.6; its widths are 0.35, 0.5"),
    ("lraspp_mobilenet_v3_large", "timm", {}, "timm has classifiers only, and the head of this network is LRASPP"),
    (
        "mobilenet_v2",
        "torchvision",
        {"norm_eps": 0.001},
        "its mobilenet_v2 has BatchNorm2d(32, eps=1e-05) where this network has BatchNorm2d(32, eps=0.001)"
        " (backbone.stem.norm)",
    ),
    (
        "mobilenet_v2",
        "torchvision",
        {"padding": "same"},
        "its mobilenet_v2 has Identity() where this network has SamePad",
    ),
    (
        "lraspp_mobilenet_v3_large",
        "torchvision",
        {"dilation_rule": "tensorflow"},
        "its lraspp_mobilenet_v3_large has Conv2d(672, 672, kernel_size=(5, 5), stride=(1, 1), padding=(4, 4),"
        " dilation=(2, 2)",
    ),
    (
        "ssdlite320_mobilenet_v3_large",
        "torchvision",
        {"reduced_tail": False},
        "its ssdlite320_mobilenet_v3_large has Conv2d(672, 80",
    ),
    (
        "mobilenetv3_large_075",
        "torchvision",
        {"norm_eps": 0.001},
        "its mobilenet_v3_large has Conv2d(16, 48, kernel_size=(1, 1)",
    ),
    ("mobilenetv3_small_050", "timm", {"width_rule": "ratio"}, "its mobilenetv3_small_050 has Conv2d(3, 16,"),
]


@pytest.mark.parametrize(("name", "library", "changes", "message"), REFUSED, ids=[f"{r[1]}-{r[0]}" for r in REFUSED])
def test_what_a_library_has_not_is_refused_in_one_line(
    name: str, library: Any, changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "best.ckpt", tmp_path / "theirs.pth"
    write(name, source, **changes)
    assert run(export.main, [f"checkpoint={source}", f"format={library}", f"output={target}"]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and "best.ckpt" in error
    assert not target.exists()


def test_two_heads_are_no_model_of_theirs() -> None:
    config = compose_config("train", ["task=[ssdlite,lraspp]"])
    network = build_network(config, {"detection": 2, "segmentation": 2})
    with pytest.raises(CheckpointError, match="torchvision has no model with the heads detection, segmentation"):
        find_model(network, "torchvision", architecture="mobilenet_v3_large", width=1.0)


def test_another_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(export.main, ["checkpoint=a.ckpt", "format=keras", "output=b"]) == 2
    assert "safetensors, torchvision, timm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rule", "width", "stem"), [("ratio", 0.5, 8), ("timm", 0.5, 16), ("timm", 0.75, 16), ("timm", 1.25, 24)]
)
def test_timms_width_rule_keeps_a_narrow_networks_stem(rule: Any, width: float, stem: int) -> None:
    backbone = mobilenet_v3_small(taps=["c5"], width=width, width_rule=rule)
    assert backbone.table.stem == stem
    if width >= 0.75:
        assert backbone.table == mobilenet_v3_small(taps=["c5"], width=width).table
