"""The layers of published MobileNets by their names in torchvision and in timm, each beside ours.

A list is read both ways, by loading and by writing, and is in the order of the other library's state dict. Our names
are those of a Network: ``backbone.`` for the trunk, ``heads.classification.`` for the classifier.
"""

from typing import Literal

from torch import nn

from mbvision.backbones.base import Backbone

Layers = list[tuple[str, str]]
"""(their layer, our layer)."""
Family = Literal["v2", "v3"]
Form = Literal["classifier", "segmenter", "detector"]

TIMM_STAGES = {
    13: (1, 2, 2, 6, 2),  # V1
    17: (1, 2, 3, 4, 3, 3, 1),  # V2
    15: (1, 2, 3, 4, 2, 3),  # V3-Large
    11: (1, 2, 3, 2, 3),  # V3-Small
}
"""How timm groups the blocks, by their number: runs of equal channels in the papers' tables."""

_HIDDEN, _OUTPUT = "heads.classification.hidden", "heads.classification.output"
_TORCHVISION_CLASSIFIER: dict[Family, Layers] = {
    "v2": [("classifier.1", _OUTPUT)],
    "v3": [("classifier.0", _HIDDEN), ("classifier.3", _OUTPUT)],
}
_TORCHVISION_BLOCK = {"v2": "conv", "v3": "block"}


def torchvision_layers(backbone: Backbone, family: Family, form: Form = "classifier") -> Layers:
    """The trunk's layers in a torchvision classifier, or in its LR-ASPP and DeepLabV3, or in its SSDLite.

    Those of a classifier's head follow where ``form`` is that.
    """
    layers = _numbered("features.0", "stem")
    for index, block in enumerate(backbone.blocks):
        layers += _torchvision_block(f"features.{index + 1}.{_TORCHVISION_BLOCK[family]}", block, f"blocks.{index}")
    if not isinstance(backbone.last, nn.Identity):
        layers += _numbered(f"features.{len(backbone.blocks) + 1}", "last")
    layers = [(theirs, f"backbone.{ours}") for theirs, ours in layers]
    if form == "segmenter":
        return [(theirs.replace("features.", "backbone.", 1), ours) for theirs, ours in layers]
    if form == "detector":
        split = _split(backbone)
        return [(_in_ssdlite(theirs, split), ours) for theirs, ours in layers]
    return layers + _TORCHVISION_CLASSIFIER[family]


def timm_layers(backbone: Backbone, blocks: int) -> Layers:
    """The layers of a timm classifier with so many blocks, one of `TIMM_STAGES`; ``backbone`` may have fewer."""
    stages = TIMM_STAGES[blocks]
    places = [(stage, index) for stage, count in enumerate(stages) for index in range(count)]
    layers = [("conv_stem", "stem.conv"), ("bn1", "stem.norm")]
    for index, (block, (stage, position)) in enumerate(zip(backbone.blocks, places, strict=False)):
        names = _timm_block(block)
        layers += [(f"blocks.{stage}.{position}.{theirs}", f"blocks.{index}.{ours}") for theirs, ours in names]
    hidden = blocks in (15, 11)  # only V3 has a layer between pool and output
    if not isinstance(backbone.last, nn.Identity):
        last = (f"blocks.{len(stages)}.0.conv", f"blocks.{len(stages)}.0.bn1") if hidden else ("conv_head", "bn2")
        layers += [(last[0], "last.conv"), (last[1], "last.norm")]
    layers = [(theirs, f"backbone.{ours}") for theirs, ours in layers]
    return [*layers, *([("conv_head", _HIDDEN)] if hidden else []), ("classifier", _OUTPUT)]


def _numbered(theirs: str, ours: str) -> Layers:
    return [(f"{theirs}.0", f"{ours}.conv"), (f"{theirs}.1", f"{ours}.norm")]


def _parts(block: nn.Module) -> list[str]:
    return [name for name, part in block.named_children() if not isinstance(part, nn.Identity)]


def _torchvision_block(prefix: str, block: nn.Module, ours: str) -> Layers:
    layers: Layers = []
    for position, part in enumerate(_parts(block)):
        theirs = f"{prefix}.{position}"
        if part == "squeeze":
            layers += [(f"{theirs}.fc1", f"{ours}.squeeze.reduce"), (f"{theirs}.fc2", f"{ours}.squeeze.expand")]
        elif part == "project" and prefix.endswith("conv"):  # V2 does not wrap its projection
            layers += [(theirs, f"{ours}.project.conv"), (f"{prefix}.{position + 1}", f"{ours}.project.norm")]
        else:
            layers += _numbered(theirs, f"{ours}.{part}")
    return layers


def _timm_block(block: nn.Module) -> Layers:
    """Norms are numbered; the pointwise convolution that ends a block is ``conv_pwl`` if another one opens it."""
    parts = _parts(block)
    pointwise = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl" if "expand" in parts else "conv_pw"}
    layers: Layers = []
    norms = 0
    for part in parts:
        if part == "squeeze":
            layers += [("se.conv_reduce", "squeeze.reduce"), ("se.conv_expand", "squeeze.expand")]
            continue
        norms += 1
        layers += [(pointwise[part], f"{part}.conv"), (f"bn{norms}", f"{part}.norm")]
    return layers


def _split(backbone: Backbone) -> int:
    """The index in torchvision's ``features`` of the block whose expansion SSDLite reads."""
    tapped = [index for index, row in enumerate(backbone.rows) if row.expanded_tap == "c4_expanded"]
    return tapped[0] + 1 if tapped else len(backbone.rows) + 1


def _in_ssdlite(name: str, split: int) -> str:
    """A classifier's layer as torchvision's SSDLite calls it: two sequences, cut behind an expansion."""
    _, position, rest = name.split(".", 2)
    index = int(position)
    if index == split and rest.startswith("block.0."):
        return f"backbone.features.0.{index}.{rest.removeprefix('block.0.')}"
    if index == split:
        return f"backbone.features.1.0.{rest.removeprefix('block.')}"
    return f"backbone.features.0.{name[9:]}" if index < split else f"backbone.features.1.{index - split}.{rest}"
