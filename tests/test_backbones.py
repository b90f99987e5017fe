"""Every backbone under conf/: declared features, published sizes, values refused, export."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mbvision.backbones import mobilenet_v3
from mbvision.backbones.pretrained import load_trunk
from mbvision.backbones.rows import LAST_TAP, Activation
from mbvision.build import ALLOWED, NOT_THE_BACKBONES, locate
from mbvision.errors import ConfigError
from mbvision.heads.classifier import Classifier
from tests.backbone_builds import FACTORIES, build, parameters

FILES = sorted((Path(__file__).parent.parent / "conf/backbone").glob("*.yaml"))


def randomise_norms(module: torch.nn.Module) -> None:
    """Statistics and affine terms that show any layer out of place."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            size = layer.num_features
            weight, mean, var, bias = (
                torch.rand(size) + 0.5,
                torch.randn(size),
                torch.rand(size) + 0.5,
                torch.randn(size),
            )
            state = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
            layer.load_state_dict(state, strict=False)


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("width", [0.35, 1.0])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_declared_features_are_what_forward_returns(path: Path, width: float, output_stride: int) -> None:
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    config.update({"output_stride": output_stride, "width": width})
    factory = locate({"_target_": config.pop("_target_")}, "backbone")
    assert config.pop("weights") is None
    dense_tap = config.pop("dense_tap")
    arguments = {str(key): value for key, value in config.items() if key not in NOT_THE_BACKBONES}
    taps = list(build(factory).features)
    assert {"c1", "c2", "c3_first", "c3_depthwise", "c3", "c4", "c5", dense_tap} <= set(taps)
    backbone = build(factory, **arguments, taps=taps)
    with torch.inference_mode():
        outputs = backbone(torch.empty(1, 3, 65, 90))
    assert list(outputs) == list(backbone.taps) == list(backbone.features)
    for tap, spec in backbone.features.items():
        expected = (1, spec.channels, -(-65 // spec.stride), -(-90 // spec.stride))
        assert outputs[tap].shape == expected, tap
        assert spec.stride <= output_stride


def test_every_factory_has_its_file() -> None:
    """What ``build.py`` allows and what ``conf/backbone`` names are the same."""
    named = {str(OmegaConf.load(path)["_target_"]) for path in FILES}
    assert named == {target for target in ALLOWED if target.startswith("mbvision.backbones.")}


@pytest.mark.parametrize(
    ("name", "arguments", "hidden", "count"),
    [
        ("v1", {}, None, 4_231_976),
        ("v1", {"width": 1.25}, None, 6_270_840),
        ("v2", {}, None, 3_504_872),
        ("v2", {"width": 0.35}, None, 1_677_128),
        ("v2", {"width": 0.5}, None, 1_968_680),
        ("v2", {"width": 0.75}, None, 2_636_424),
        ("v2", {"width": 1.4}, None, 6_108_776),
        ("v3_large", {}, 1280, 5_483_032),
        ("v3_large", {"width": 0.75}, 1280, 3_993_528),
        ("v3_large", {"width": 0.75, "width_rule": "absolute"}, 960, 3_377_576),  # torchvision scales the hidden layer
        ("v3_small", {}, 1024, 2_542_856),
        ("v3_small", {"width": 0.75}, 1024, 2_041_872),
        ("v3_large_minimalistic", {}, 1280, 3_924_288),
        ("v3_small_minimalistic", {}, 1024, 2_044_736),
    ],
)
def test_classifiers_have_the_published_sizes(
    name: str, arguments: dict[str, Any], hidden: int | None, count: int
) -> None:
    backbone = build(name, **arguments)
    head = Classifier(features=backbone.features, num_classes=1000, taps=["c5"], hidden=hidden)
    assert parameters(backbone, head) == count


@pytest.mark.parametrize(
    ("name", "arguments", "channels"),
    # arXiv:1801.04381 section 6.2, arXiv:1905.02244 section 6.3: what SSDLite reads
    [
        ("v1", {}, {"c4": 512, "c5": 1024}),
        ("v1", {}, {"c4_expanded": 512, "c5": 1024}),
        ("v2", {}, {"c4_expanded": 576, "c5": 1280}),
        ("v2", {"width": 0.5}, {"c4_expanded": 288, "c5": 1280}),
        ("v2", {"width": 0.5, "scale_last": True}, {"c4_expanded": 288, "c5": 640}),
        ("v2", {"width": 1.4}, {"c4_expanded": 816, "c5": 1792}),
        ("v3_large", {}, {"c4_expanded": 672, "c5": 960, "c5_blocks": 160}),
        ("v3_large", {"reduced_tail": True}, {"c4_expanded": 672, "c5": 480, "c5_blocks": 80}),
        ("v3_large", {"reduced_tail": "segmentation"}, {"c4_expanded": 336, "c5": 480, "c5_blocks": 80}),
        ("v3_small", {}, {"c4_expanded": 288, "c5": 576, "c5_blocks": 96}),
        ("v3_small", {"reduced_tail": True}, {"c4_expanded": 288, "c5": 288, "c5_blocks": 48}),
    ],
)
def test_detectors_find_the_published_channels(name: str, arguments: dict[str, Any], channels: dict[str, int]) -> None:
    features = build(name, **arguments).features
    assert {tap: features[tap].channels for tap in channels} == channels


@pytest.mark.parametrize(("tap", "blocks"), [("c1", 1), ("c3", 6), ("c4_expanded", 13), ("c5_blocks", 15)])
def test_nothing_deeper_than_the_deepest_tap_is_built(tap: str, blocks: int) -> None:
    backbone = build("v3_large", taps=[tap])
    assert len(backbone.blocks) == len(backbone.rows) == blocks
    assert isinstance(backbone.last, torch.nn.Identity)
    assert backbone.features == build("v3_large").features


@pytest.mark.parametrize("name", ["v1", "v2", "v3_small"])
def test_a_tap_is_the_same_alone_and_among_others(name: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 3, 33, 40)
    whole = FACTORIES[name](taps=list(build(name).features), width=0.35).eval()
    randomise_norms(whole)
    outputs = whole(images)
    for tap in whole.taps:
        alone = FACTORIES[name](taps=[tap], width=0.35).eval()
        load_trunk(alone, whole.state_dict())
        torch.testing.assert_close(alone(images)[tap], outputs[tap], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "library", "hidden", "arguments"),
    [
        ("v1", "mobilenetv1_100", None, {}),
        ("v2", "mobilenetv2_035", None, {"width": 0.35}),
        ("v3_small", "tf_mobilenetv3_small_075", 1024, {"width": 0.75, "padding": "same"}),
        ("v3_small_minimalistic", "tf_mobilenetv3_small_minimal_100", 1024, {"padding": "same"}),
    ],
)
@torch.no_grad()
def test_classifier_equals_timm(name: str, library: str, hidden: int | None, arguments: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = timm.create_model(library).double().eval()
    randomise_norms(theirs)
    backbone = FACTORIES[name](taps=["c5"], **arguments)
    activation: Activation = "relu" if "minimal" in name else "hardswish"
    head = Classifier(features=backbone.features, num_classes=1000, taps=["c5"], hidden=hidden, activation=activation)
    ours = torch.nn.ModuleList([backbone, head]).double().eval()
    state = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)  # both in the order of the layers
    ours.load_state_dict({key: value.reshape(own.shape) for (key, own), value in state})
    images = torch.randn(1, 3, 70, 97, dtype=torch.float64)
    torch.testing.assert_close(head(backbone(images)), theirs(images), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_export_takes_any_batch() -> None:
    backbone = mobilenet_v3.mobilenet_v3_small(taps=["c4_expanded", "c5"], width=0.35, output_stride=16).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(backbone, (torch.randn(2, 3, 64, 96),), dynamic_shapes=({0: batch},))
    images = torch.randn(3, 3, 64, 96)
    torch.testing.assert_close(program.module()(images), backbone(images))


@torch.no_grad()
def test_export_with_same_padding_takes_any_size() -> None:
    backbone = mobilenet_v3.mobilenet_v3_small(taps=["c2"], width=0.35, padding="same").eval()
    height, width = (torch.export.Dim(axis, min=64, max=2048) for axis in ("height", "width"))
    program = torch.export.export(backbone, (torch.randn(1, 3, 96, 128),), dynamic_shapes=({2: height, 3: width},))
    images = torch.randn(1, 3, 97, 131)
    torch.testing.assert_close(program.module()(images), backbone(images))


def test_training_in_channels_last_stays_in_channels_last() -> None:
    backbone = mobilenet_v3.mobilenet_v3_small(taps=["c3", "c5"], width=0.35).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    outputs = backbone(images)
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs.values())
    sum(output.sum() for output in outputs.values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("v2", {"taps": ["c9"]}, r"no feature \['c9'\]; it has \['c1', 'c2'"),
        ("v1", {"taps": ["c5_blocks"]}, r"no feature \['c5_blocks'\]"),
        ("v1", {"taps": []}, "taps is empty"),
        ("v1", {"output_stride": 4}, "output_stride is 4; choose 8, 16 or 32"),
        ("v2", {"output_stride": True}, "output_stride is True"),
        ("v2", {"width": 0}, "width is 0; give a finite number above 0"),
        ("v2", {"width": float("nan")}, "width is nan"),
        ("v1", {"width": float("inf")}, "width is inf"),
        ("v3_small", {"width": "wide"}, "width is 'wide'"),
        ("v3_small", {"width": -1, "width_rule": "absolute"}, "width is -1"),
        ("v3_large", {"width_rule": "paper"}, "width_rule is 'paper'; choose ratio"),
        ("v3_large", {"dilation_rule": "keras"}, "dilation_rule is 'keras'; choose tensorflow or torchvision"),
        ("v3_large", {"reduced_tail": "half"}, "reduced_tail is 'half'; choose false"),
        ("v3_large", {"padding": "valid"}, "padding is 'valid'"),
    ],
)
def test_values_out_of_range_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taps": ["c9"]}, r"no feature \['c9'\]"),
        ({"taps": ["c4", "c5"]}, "exactly one tap"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"hidden": 8, "activation": "gelu"}, "activation is 'gelu'"),
    ],
)
def test_classifier_refuses_values_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier(features=build("v2").features, **({"num_classes": 10} | arguments))


def test_last_tap_is_named_by_every_table() -> None:
    assert all(LAST_TAP in build(name).features for name in FACTORIES)
