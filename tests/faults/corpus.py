"""All cases, in the order of the table."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from tests.faults.archives import archive_cases
from tests.faults.archives_flipped import flipped_archive_cases
from tests.faults.case import Case
from tests.faults.checkpoints import checkpoint_cases
from tests.faults.coco import coco_cases
from tests.faults.images import image_cases
from tests.faults.images_damaged import damaged_image_cases
from tests.faults.lists import list_cases
from tests.faults.masks import mask_cases
from tests.faults.overrides import override_cases
from tests.faults.own_files import own_file_cases
from tests.faults.videos import video_cases
from tests.faults.voc import voc_cases

KINDS: Mapping[str, Callable[[], Iterator[Case]]] = {
    "image": lambda: chain(image_cases(), damaged_image_cases()),
    "COCO": coco_cases,
    "VOC": voc_cases,
    "lists": list_cases,
    "mask": mask_cases,
    "video": video_cases,
    "archive": lambda: chain(archive_cases(), flipped_archive_cases()),
    "checkpoint": checkpoint_cases,
    "override": override_cases,
    "own files": own_file_cases,
}


def corpus(*kinds: str) -> list[Case]:
    """Every case of these kinds, or of all; the names are unique within a kind."""
    return [case for kind in kinds or KINDS for case in KINDS[kind]()]
