"""torchvision's weights under our names: equal outputs, and one-line errors for those that do not fit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from mbvision.backbones.base import Backbone
from mbvision.backbones.mobilenet_v2 import mobilenet_v2
from mbvision.backbones.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from mbvision.backbones.pretrained import load_strict, load_trunk, rename_torchvision
from mbvision.backbones.rows import DilationRule
from mbvision.errors import CheckpointError
from mbvision.heads.classifier import Classifier

models = torchvision.models


def randomised(model: nn.Module) -> Any:
    """float64, in eval mode, with norms that show any layer out of place."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            size = layer.num_features
            weight, mean, var, bias = (
                torch.rand(size) + 0.5,
                torch.randn(size),
                torch.rand(size) + 0.5,
                torch.randn(size),
            )
            state = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
            layer.load_state_dict(state, strict=False)
    return model.double().eval()


def network(backbone: Backbone, **head: Any) -> Any:
    """What a Network holds, without its normalisation."""
    classifier = Classifier(features=backbone.features, num_classes=1000, **head)
    return nn.ModuleDict({"backbone": backbone, "heads": nn.ModuleDict({"classification": classifier})})


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    return models.mobilenet_v3_small().state_dict()


@pytest.mark.parametrize(
    ("theirs", "ours", "arguments", "hidden"),
    [
        (models.mobilenet_v2, mobilenet_v2, {"norm_eps": 1e-5}, None),
        (models.mobilenet_v3_large, mobilenet_v3_large, {"norm_eps": 1e-3}, 1280),
        (models.mobilenet_v3_small, mobilenet_v3_small, {"norm_eps": 1e-3}, 1024),
    ],
)
@torch.no_grad()
def test_classifier_equals_torchvision(
    theirs: Callable[..., Any], ours: Callable[..., Any], arguments: dict[str, Any], hidden: int | None
) -> None:
    reference = randomised(theirs())
    built = network(ours(taps=["c5"], **arguments), hidden=hidden).double().eval()
    load_strict(built, rename_torchvision(reference.state_dict(), built["backbone"]))
    for size in ((64, 64), (70, 97)):
        images = torch.randn(1, 3, *size, dtype=torch.float64)
        logits = built["heads"]["classification"](built["backbone"](images))
        torch.testing.assert_close(logits, reference(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduced", [True, False])
@torch.no_grad()
def test_trunk_of_ssdlite_equals_torchvision(reduced: bool) -> None:
    features = models.mobilenet_v3_large(reduced_tail=reduced).features
    whole = models.detection.ssdlite.SSDLiteFeatureExtractorMobileNet(features, 13, nn.BatchNorm2d)
    reference = randomised(nn.ModuleDict({"backbone": whole}))
    backbone = mobilenet_v3_large(taps=["c4_expanded", "c5"], reduced_tail=reduced).double().eval()
    load_trunk(backbone, reference.state_dict() | {"head.classification_head.bias": torch.zeros(3)})
    images = torch.randn(1, 3, 70, 97, dtype=torch.float64)
    expected = list(whole(images).values())
    outputs = backbone(images)
    torch.testing.assert_close(outputs["c4_expanded"], expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(outputs["c5"], expected[1], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_dilated_trunk_of_lraspp_equals_torchvision() -> None:
    reference = randomised(models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None))
    images = torch.randn(1, 3, 70, 97, dtype=torch.float64)
    expected = reference.backbone(images)
    rules: dict[DilationRule, bool] = {"torchvision": True, "tensorflow": False}
    for rule, equal in rules.items():
        backbone = mobilenet_v3_large(taps=["c3_first", "c5"], output_stride=16, dilation_rule=rule).double().eval()
        load_trunk(backbone, reference.state_dict())
        outputs = backbone(images)
        torch.testing.assert_close(outputs["c3_first"], expected["low"], rtol=1e-9, atol=1e-9)
        assert torch.allclose(outputs["c5"], expected["high"], rtol=1e-9, atol=1e-9) == equal


def test_trunk_takes_weights_of_a_classifier_with_and_without_its_head(small: dict[str, Tensor]) -> None:
    headless = {key: value for key, value in small.items() if not key.startswith("classifier")}
    source = mobilenet_v3_small(taps=["c5"])
    load_trunk(source, small)
    for state in (headless, network(source).state_dict(), source.state_dict()):
        backbone = mobilenet_v3_small(taps=["c5"])
        load_trunk(backbone, state)
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("tap", ["c2", "c4", "c5_blocks"])
def test_trunk_that_ends_early_leaves_deeper_layers(small: dict[str, Tensor], tap: str) -> None:
    whole, cut = mobilenet_v3_small(taps=["c5"]), mobilenet_v3_small(taps=[tap])
    load_trunk(whole, small)
    for state in (small, whole.state_dict(), network(whole).state_dict()):
        load_trunk(cut, state)
    weights = whole.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in cut.state_dict().items())


def test_first_layer_of_another_width_is_named_with_both_shapes(small: dict[str, Tensor]) -> None:
    backbone = mobilenet_v3_small(taps=["c5"], width=0.35)
    before = backbone.state_dict()["stem.conv.weight"].clone()
    with pytest.raises(CheckpointError, match=r"stem.conv.weight is \[8, 3, 3, 3\] in the network and \[16, 3, 3, 3\]"):
        load_trunk(backbone, small)
    assert torch.equal(backbone.state_dict()["stem.conv.weight"], before)


def test_missing_layer_is_named(small: dict[str, Tensor]) -> None:
    state = {key: value for key, value in small.items() if key != "features.4.block.1.0.weight"}
    message = r"blocks.3.depthwise.conv.weight is \[96, 1, 5, 5\] in the network and missing"
    with pytest.raises(CheckpointError, match=message):
        load_trunk(mobilenet_v3_small(taps=["c5"]), state)


def test_layer_too_many_is_named(small: dict[str, Tensor]) -> None:
    built = network(mobilenet_v3_small(taps=["c5"]), hidden=1024)
    state = rename_torchvision(small, built["backbone"]) | {"heads.detection.bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"heads.detection.bias is \[3\] in the weights and not in the network"):
        load_strict(built, state)


@pytest.mark.parametrize("extra", ["features.4.block.4.0.weight", "features.20.0.weight", "fc.weight"])
def test_torchvision_layer_without_a_place_is_named(small: dict[str, Tensor], extra: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{extra} is \[1\] in the weights and is no layer of this backbone"):
        rename_torchvision(small | {extra: torch.zeros(1)}, mobilenet_v3_small(taps=["c5"]))


def test_weights_of_another_architecture_are_refused(small: dict[str, Tensor]) -> None:
    message = r"is \[32, 3, 3, 3\] in the network and \[16, 3, 3, 3\] in the weights \(features.0.0.weight there"
    with pytest.raises(CheckpointError, match=message):
        load_trunk(mobilenet_v2(taps=["c5"]), small)
    message = r"features.1.block.1.fc1.weight is \[8, 16, 1, 1\] in the weights and is no layer of this backbone"
    with pytest.raises(CheckpointError, match=message):
        load_trunk(mobilenet_v3_large(taps=["c5"]), small)
    with pytest.raises(CheckpointError, match="in the network and missing"):
        load_trunk(mobilenet_v2(taps=["c5"]), {})
