"""Segmentation heads: every variant on every backbone, at sizes that fit no stride, and what each argument means."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from mbvision.backbones.base import FeatureSpec
from mbvision.commands.compose import conf_folder
from mbvision.engine.single_image import norms_of_single_values
from mbvision.errors import AnnotationError, ConfigError
from mbvision.heads.base import Head
from mbvision.heads.deeplabv3 import DeepLabV3
from mbvision.heads.lraspp import LRASPP, LargePool
from mbvision.heads.segmentation import AuxiliaryHead, SegmentationOutput
from mbvision.losses.segmentation import SegmentationLoss
from mbvision.network import Network
from mbvision.structures import Geometry, Target
from mbvision.tasks.segmentation import SemanticSegmentation

CONF = conf_folder()
BACKBONES = sorted(path.stem for path in (CONF / "backbone").glob("*.yaml"))
VARIANTS = sorted(
    path.stem for path in (CONF / "task").glob("*.yaml") if "segmentation" in yaml.safe_load(path.read_text())["heads"]
)
CLASSES = 5
FEATURES = {"deep": FeatureSpec(40, 16), "shallow": FeatureSpec(24, 8), "coarse": FeatureSpec(40, 32)}


def component(node: Mapping[str, Any]) -> Any:
    module, _, name = node["_target_"].rpartition(".")
    return getattr(import_module(module), name)


def network_with_all_heads(backbone: str, output_stride: int, variants: list[str]) -> Network:
    """One narrow backbone and a head of each variant, as conf/ has them but for the width."""
    about = yaml.safe_load((CONF / "backbone" / f"{backbone}.yaml").read_text())
    nodes = {name: yaml.safe_load((CONF / "task" / f"{name}.yaml").read_text())["heads"] for name in variants}
    arguments = {name: {**heads["segmentation"], "filters": 16} for name, heads in nodes.items()}
    for node in arguments.values():
        node["taps"] = [about["dense_tap"] if "dense_tap" in tap else tap for tap in node["taps"]]
    taps = sorted({tap for node in arguments.values() for tap in node["taps"]})
    trunk = component(about)(taps=taps, width=0.35, output_stride=output_stride)
    heads = {
        name: component(node)(
            features=trunk.features, num_classes=CLASSES, **{k: v for k, v in node.items() if k != "_target_"}
        )
        for name, node in arguments.items()
    }
    return Network(backbone=trunk, heads=heads, mean=(0.5,) * 3, std=(0.5,) * 3)


def targets(count: int, size: tuple[int, int], seed: int = 0) -> list[Target]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(CLASSES, (count, *size), generator=generator, dtype=torch.uint8)
    masks[:, :9] = 255
    return [Target(image_id=i, geometry=Geometry(original=size), mask=mask) for i, mask in enumerate(masks)]


def task(**loss: Any) -> SemanticSegmentation:
    return SemanticSegmentation(loss=SegmentationLoss(**loss))


def total(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_variant_learns_on_every_backbone_at_an_odd_size(backbone: str, output_stride: int) -> None:
    network = network_with_all_heads(backbone, output_stride, VARIANTS)
    size = (97, 131)
    outputs = network(torch.rand(2, 3, *size))
    losses = {name: task().loss(output, targets(2, size), size) for name, output in outputs.items()}
    torch.stack([total(each) for each in losses.values()]).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for name, output in outputs.items():
        head: Any = network.heads[name]
        backbone_features: Any = network.backbone.features
        stride = backbone_features[head.taps[-1 if isinstance(head, LRASPP) else 0]].stride
        assert output.logits.shape == (2, CLASSES, -(-size[0] // stride), -(-size[1] // stride)), name
        found = task().predict(output, size)
        assert len(found) == 2 and found[1].input_size == size
        assert torch.equal(found[1].logits, output.logits[1])
        assert set(losses[name]) == ({"class"} if output.auxiliary is None else {"class", "auxiliary"})


@pytest.mark.parametrize("size", [(32, 32), (64, 33)])
def test_one_tiny_image_trains(size: tuple[int, int]) -> None:
    network = network_with_all_heads("mobilenet_v3_small", 32, VARIANTS).train()
    with norms_of_single_values(network):
        outputs = network(torch.rand(1, 3, *size))
    losses = torch.stack([total(task().loss(output, targets(1, size), size)) for output in outputs.values()]).sum()
    losses.backward()
    assert losses.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_every_variant_exports() -> None:
    network = network_with_all_heads("mobilenet_v1", 16, VARIANTS).eval()
    images = torch.rand(1, 3, 97, 131)
    program = torch.export.export(network, (images,), strict=False)
    with torch.no_grad():
        expected, found = network(images), program.module()(images)
    for name in VARIANTS:
        torch.testing.assert_close(found[name].logits, expected[name].logits, atol=1e-5, rtol=1e-5)


def maps(height: int, width: int, *, low: tuple[int, int] = (1, 1), batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"deep": (height, width), "coarse": (height, width), "shallow": low}
    return {
        name: torch.randn(batch, spec.channels, *sizes[name], generator=generator) for name, spec in FEATURES.items()
    }


@pytest.mark.parametrize(
    ("stride", "size", "grid"),
    [
        (8, (129, 257), (2, 5)),
        (16, (65, 129), (2, 5)),  # 1025x2049, the paper's Cityscapes
        (16, (49, 49), (1, 1)),  # 769x769, its crops
        (16, (20, 129), (1, 5)),  # lower than the kernel
        (16, (65, 20), (2, 1)),
        (16, (1, 1), (1, 1)),
        (32, (33, 65), (3, 9)),
        (32, (25, 25), (1, 1)),
    ],
)
def test_grid_of_the_large_pool(stride: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
    features = {"deep": FeatureSpec(2, stride), "shallow": FeatureSpec(1, 8)}
    pool = LRASPP(features=features, num_classes=2, taps=["deep", "shallow"], filters=1).pool
    inputs = torch.rand(1, 2, *size)
    pooled = pool(inputs)
    assert pooled.shape[2:] == grid
    if grid == (1, 1):
        torch.testing.assert_close(pooled[..., 0, 0], inputs.mean(dim=(2, 3)))


def test_large_pool_means_its_windows() -> None:
    inputs = torch.rand(1, 1, 7, 4)
    pooled = LargePool(kernel=5, stride=(2, 3))(inputs)
    expected = torch.stack([inputs[0, 0, :5].mean(), inputs[0, 0, 2:].mean()])
    torch.testing.assert_close(pooled.flatten(), expected)


def test_lraspp_is_the_papers_formula() -> None:
    head = LRASPP(features=FEATURES, num_classes=3, taps=["deep", "shallow"], filters=6, gate="hardsigmoid").eval()
    features = maps(5, 7, low=(9, 13))
    weights = {name: value[..., 0, 0] if value.dim() == 4 else value for name, value in head.state_dict().items()}
    projected = torch.einsum("fc,bchw->bfhw", weights["project.conv.weight"], features["deep"])
    projected = projected.div((1 + 1e-5) ** 0.5).relu()  # a fresh norm: mean 0, variance 1
    gate = features["deep"].mean(dim=(2, 3)) @ weights["gate_conv.weight"].T + weights["gate_conv.bias"]
    gated = projected * ((gate + 3).clamp(0, 6) / 6)[..., None, None]
    large = nn.functional.interpolate(gated, (9, 13), mode="bilinear", align_corners=False)
    expected = torch.einsum("kf,bfhw->bkhw", weights["high_output.weight"], large)
    expected += torch.einsum("kc,bchw->bkhw", weights["low_output.weight"], features["shallow"])
    expected += (weights["high_output.bias"] + weights["low_output.bias"])[:, None, None]
    torch.testing.assert_close(head(features).logits, expected)


@pytest.mark.parametrize(
    ("tap", "rates", "expected"),
    [
        ("deep", None, (6, 12, 18)),
        ("shallow", None, (12, 24, 36)),
        ("coarse", None, (3, 6, 9)),
        ("shallow", [12, 24, 36], (12, 24, 36)),
        ("coarse", [12, 24, 36], (12, 24, 36)),
        ("deep", [2], (2,)),
    ],
)
def test_rates_follow_the_stride_unless_given(tap: str, rates: list[int] | None, expected: tuple[int, ...]) -> None:
    head = DeepLabV3(features=FEATURES, num_classes=3, taps=[tap], filters=4, rates=rates)
    dilations = [m.dilation[0] for m in head.branches.modules() if isinstance(m, nn.Conv2d)]
    assert dilations == [1, *expected]
    assert head({tap: torch.rand(2, FEATURES[tap].channels, 5, 3)}).logits.shape == (2, 3, 5, 3)


def test_without_atrous_branches_every_place_sees_itself_and_the_mean_alone() -> None:
    head = DeepLabV3(features=FEATURES, num_classes=3, taps=["deep"], filters=8, atrous=False).eval()
    inputs = torch.rand(1, 40, 4, 6)
    swapped = inputs.flip(2)  # the mean stays
    logits, moved = (head({"deep": x}).logits for x in (inputs, swapped))
    torch.testing.assert_close(moved, logits.flip(2))


def test_auxiliary_head_reads_its_own_tap() -> None:
    head = DeepLabV3(features=FEATURES, num_classes=3, taps=["deep", "shallow"], filters=4, atrous=False).eval()
    out = head(maps(4, 6, low=(8, 12)))
    assert isinstance(out, SegmentationOutput) and isinstance(head.auxiliary, AuxiliaryHead)
    assert out.logits.shape == (2, 3, 4, 6)
    assert out.auxiliary is not None and out.auxiliary.shape == (2, 3, 8, 12)
    assert head.auxiliary.conv.conv.out_channels == 24 // 4


def test_norms_have_the_papers_epsilon_and_the_given_momentum() -> None:
    for kind, taps in ((DeepLabV3, ["deep", "shallow"]), (LRASPP, ["deep", "shallow"])):
        head = kind(features=FEATURES, num_classes=3, taps=taps, norm_momentum=0.0003)
        norms = [module for module in head.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms and all(norm.eps == 1e-5 and norm.momentum == 0.0003 for norm in norms)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (LRASPP, {"taps": ["deep"]}, "exactly two"),
        (LRASPP, {"taps": ["deep", "c9"]}, "no feature .'c9'.; it has"),
        (LRASPP, {"pool": "small"}, "'small'; choose large or global"),
        (LRASPP, {"gate": "tanh"}, "'tanh'; choose sigmoid or hardsigmoid"),
        (LRASPP, {"filters": 0}, "filters is 0"),
        (LRASPP, {"num_classes": 0}, "num_classes is 0"),
        (LRASPP, {"num_classes": 255}, "num_classes is 255"),
        (DeepLabV3, {"taps": []}, "taps is empty"),
        (DeepLabV3, {"taps": ["deep", "shallow", "coarse"]}, "at most one for the auxiliary"),
        (DeepLabV3, {"dropout": 1.0}, "dropout is 1.0"),
        (DeepLabV3, {"rates": []}, "rates is .*whole numbers"),
        (DeepLabV3, {"rates": [0, 6]}, "rates is .*whole numbers"),
        (DeepLabV3, {"rates": [6.5]}, "rates is .*whole numbers"),
        (DeepLabV3, {"rates": [6], "atrous": False}, "set atrous=true"),
        (DeepLabV3, {"norm_momentum": 0}, "norm_momentum is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: type[Head], arguments: dict[str, Any], message: str) -> None:
    defaults = {"features": FEATURES, "num_classes": 3, "taps": ["deep", "shallow"]}
    with pytest.raises(ConfigError, match=message):
        kind(**{**defaults, **arguments})


def test_large_pool_on_a_shallow_tap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stride 4, only for \[8, 16, 32\]"):
        LRASPP(features={"c2": FeatureSpec(8, 4)}, num_classes=2, taps=["c2", "c2"])


def outputs_of(batch: int, *, auxiliary: bool) -> SegmentationOutput:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(batch, CLASSES, 4, 6, generator=generator).requires_grad_()
    other = torch.randn(batch, CLASSES, 8, 12, generator=generator).requires_grad_() if auxiliary else None
    return SegmentationOutput(logits, other)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_images_without_a_mask_do_not_count(auxiliary: bool) -> None:
    outputs, known = outputs_of(3, auxiliary=auxiliary), targets(3, (32, 48))
    known[1] = Target(image_id=1, geometry=Geometry(original=(32, 48)))
    rows = [0, 2]
    other = None if outputs.auxiliary is None else outputs.auxiliary[rows]
    expected = task().loss(SegmentationOutput(outputs.logits[rows], other), [known[0], known[2]], (32, 48))
    found = task().loss(outputs, known, (32, 48))
    assert found.keys() == expected.keys()
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize("auxiliary", [True, False])
def test_a_batch_without_masks_gives_zero_that_can_be_trained_on(auxiliary: bool) -> None:
    outputs = outputs_of(2, auxiliary=auxiliary)
    nothing = [Target(image_id=i, geometry=Geometry(original=(32, 48))) for i in range(2)]
    losses = task().loss(outputs, nothing, (32, 48))
    assert set(losses) == ({"class", "auxiliary"} if auxiliary else {"class"})
    assert total(losses) == 0
    total(losses).backward()
    for tensor in outputs:
        assert tensor is None or (tensor.grad is not None and not tensor.grad.any())


def test_a_label_that_is_no_class_is_refused_with_its_image() -> None:
    known = targets(2, (32, 48))
    assert known[1].mask is not None
    known[1].mask[20, 7] = CLASSES
    with pytest.raises(AnnotationError, match=r"image 1: .* label 5, the network has 5 classes, 0 to 4"):
        task().loss(outputs_of(2, auxiliary=False), known, (32, 48))
