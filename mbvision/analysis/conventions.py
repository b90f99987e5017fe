"""What is counted: ours, and what the MobileNet papers count, which none of them states.

The papers' conventions are inferred: each is the reading under which a whole table comes out at its printed digits.
"""

from dataclasses import dataclass

from mbvision.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What counts beside the weights and biases of convolutions and linear layers and their multiply-adds.

    ``norms``: the scales and shifts of batch norms are parameters. ``hard_swish``: multiply-adds for each element of
    a hard swish. ``space_to_batch``: a dilated convolution costs what it would on a map whose sides are multiples of
    its rate, as TensorFlow computes it. ``upsampling``: an element of the logits brought to the input's size costs 1.
    """

    norms: bool
    hard_swish: int = 0
    space_to_batch: bool = False
    upsampling: bool = False


CONVENTIONS = {
    # every parameter that is learnt, every multiply-add of a convolution or linear layer
    "plain": Convention(norms=True),
    # the classifiers of arXiv:1704.04861, arXiv:1801.04381 (table 4) and arXiv:1905.02244 (tables 3, 9), and the SSD
    # and SSDLite tables of the first two (tables 13 and 6)
    "paper_classification": Convention(norms=False),
    # SSDLite in arXiv:1905.02244 (table 6)
    "paper_detection": Convention(norms=False, hard_swish=2),
    # arXiv:1801.04381 (table 7) and arXiv:1905.02244 (tables 7, 8)
    "paper_segmentation": Convention(norms=True, hard_swish=2, space_to_batch=True, upsampling=True),
}
"""By the name that ``convention=`` takes."""


def find_convention(name: str) -> Convention:
    """The convention of that name. Raises ConfigError with the choices."""
    if name not in CONVENTIONS:
        raise ConfigError(f"convention={name}: choose {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]
