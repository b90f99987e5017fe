"""What a two-stage detector on a backbone would cost: a count, not a network that could be trained.

arXiv:1704.04861, table 13, gives Faster R-CNN with MobileNet: all of the backbone down to stride 16 on the image, and
its last stage on every proposal. The paper says no more; the numbers below are the usual ones of TensorFlow's detectors
and give the printed figures.
"""

from dataclasses import replace

from mbvision.analysis.breakdown import by_stage
from mbvision.analysis.complexity import Complexity, LayerCost, Work, count
from mbvision.network import Network

PROPOSAL_CHANNELS = 512
"""Of the 3x3 convolution that proposals come from."""
ANCHORS = 12
"""Four scales of three ratios at every place of the map of stride 16."""
PROPOSALS = 300
"""That go through the second stage."""
CROP_INPUT = 14 * 16
"""A proposal's crop has 14x14 cells of stride 16, so its second stage costs what the last stage of an image of this
side does."""


def two_stage(network: Network, input_size: tuple[int, int], num_classes: int, convention: str = "plain") -> Complexity:
    """The cost of a detector of ``num_classes`` kinds of objects on the backbone of ``network``, which reads ``c5``.

    Layers that run on every proposal have the cost of all of them, their parameters once.
    """
    image = by_stage(network, count(network, input_size, convention))
    crop = by_stage(network, count(network, (CROP_INPUT, CROP_INPUT), convention))
    second = ("backbone.c5", "backbone.last")
    layers = [
        layer
        for stage, cost in image.items()
        if stage.startswith("backbone.") and stage not in second
        for layer in cost.layers
    ]
    specs = network.backbone.features
    height, width = (-(-side // 16) for side in input_size)
    proposals = _convolution("proposals.conv", specs["c4"].channels, PROPOSAL_CHANNELS, 3, (height, width))
    layers.append(proposals)
    for name, channels in (("objectness", 2 * ANCHORS), ("boxes", 4 * ANCHORS)):
        layers.append(_convolution(f"proposals.{name}", PROPOSAL_CHANNELS, channels, 1, (height, width)))
    layers += [_on_every_proposal(layer) for stage in second if stage in crop for layer in crop[stage].layers]
    for name, outputs in (("classes", num_classes + 1), ("boxes", 4 * num_classes)):
        layers.append(_on_every_proposal(_linear(f"second.{name}", specs["c5"].channels, outputs)))
    return Complexity(layers=tuple(layers))


def _on_every_proposal(layer: LayerCost) -> LayerCost:
    return replace(layer, madds=PROPOSALS * layer.madds, activations=PROPOSALS * layer.activations)


def _convolution(name: str, inputs: int, outputs: int, kernel: int, size: tuple[int, int]) -> LayerCost:
    weights, places = inputs * outputs * kernel**2, size[0] * size[1]
    work: Work = "pointwise" if kernel == 1 else "dense"
    return LayerCost(
        name=name,
        kind="Conv2d",
        work=work,
        parameters=weights + outputs,
        madds=weights * places,
        output=(outputs, *size),
        activations=outputs * places,
    )


def _linear(name: str, inputs: int, outputs: int) -> LayerCost:
    return LayerCost(
        name=name,
        kind="Linear",
        work="linear",
        parameters=(inputs + 1) * outputs,
        madds=inputs * outputs,
        output=(outputs,),
        activations=outputs,
    )
