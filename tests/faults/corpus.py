"""All cases, in the order of the table."""

from tests.faults.archives import archive_cases
from tests.faults.case import Case
from tests.faults.checkpoints import checkpoint_cases
from tests.faults.coco import coco_cases
from tests.faults.images import image_cases
from tests.faults.lists import list_cases
from tests.faults.masks import mask_cases
from tests.faults.overrides import override_cases
from tests.faults.videos import video_cases
from tests.faults.voc import voc_cases


def corpus() -> list[Case]:
    """Every case; their names are unique within a kind."""
    return [
        *image_cases(),
        *coco_cases(),
        *voc_cases(),
        *list_cases(),
        *mask_cases(),
        *video_cases(),
        *archive_cases(),
        *checkpoint_cases(),
        *override_cases(),
    ]
