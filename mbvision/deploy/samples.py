"""The pictures on which an export is compared with its network where no data set is given."""

from jaxtyping import Float
from torch import Tensor

from mbvision.data.scenes_drawing import draw_scene
from mbvision.data.transforms.evaluation import fit_image
from mbvision.deploy.export import as_batches

PICTURES = 8


def sample_pictures(size: tuple[int, int], batch: int) -> list[Float[Tensor, "B 3 H W"]]:
    """A few drawn scenes, as batches for the network's input: noise would show less."""
    drawn = [fit_image(draw_scene(seed).image, size)[0] for seed in range(PICTURES // batch * batch or batch)]
    return as_batches(drawn, batch)
