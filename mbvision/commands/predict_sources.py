"""What ``source=`` of ``predict`` means: images, what moves, and cameras; by content, and in natural order."""

import glob
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mbvision.data.file_listing import is_system_name, list_files, list_folders, natural_key, shown
from mbvision.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from mbvision.data.frames import FrameSource

logger = logging.getLogger(__name__)


def find_sources(source: str) -> tuple[list[Path], list[Path]]:
    """The images, and the videos and animated images, that ``source`` means, in natural order.

    What of a folder or a pattern is left out is counted in a warning. Raises `ConfigError` if nothing is left.
    """
    from mbvision.data.animation import is_moving, page_count

    path = Path(source)
    if path.is_dir():
        paths = _of_folder(path)
    elif path.exists():
        paths = [path]
    else:
        matches = [Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file()]
        paths = [p for p in matches if p.name.startswith(".") or not is_system_name(p.name)]
        paths.sort(key=lambda p: natural_key(p.as_posix()))
    if not paths:
        raise ConfigError(f"source={source}: no image or video there; give a file, a folder or a glob in quotes")
    moving = {p for p in paths if is_moving(p)}
    pages = {p: page_count(p) for p in paths if p.suffix.lower() in (".tif", ".tiff")}
    for p in (p for p, count in pages.items() if count > 1):
        logger.warning("%s: the first of its %d pages is read", p, pages[p])
    return [p for p in paths if p not in moving], [p for p in paths if p in moving]


def _of_folder(folder: Path) -> list[Path]:
    from mbvision.data import images, video

    listing = list_files(folder, (*images.SUFFIXES, *video.SUFFIXES), deep=False)
    listing.warn_of_passed_over()
    if folders := list_folders(folder):
        text = "%s: %d sub-folders are not searched (%s); source='%s/**/*' takes their files too"
        logger.warning(text, folder, len(folders), shown(folders), folder)
    return [folder / name for name in listing.names]


def camera_number(source: str) -> int | None:
    """The number of the camera that ``source`` names, None where it names files. Raises `ConfigError`."""
    if not source.startswith("camera:"):
        return None
    number = source.removeprefix("camera:")
    if not number.isdecimal():
        raise ConfigError(f"source={source}: name the camera by its number, as camera:0")
    return int(number)


def check_lone_source(camera: int | None, images: Sequence[Path], videos: Sequence[Path]) -> None:
    """Raise what is wrong with a camera, or with a source that is alone, before anything is computed."""
    from mbvision.data.animation import open_moving
    from mbvision.data.frames import Camera
    from mbvision.data.images import read_image

    if camera is not None:
        Camera(camera).close()
    elif len(images) + len(videos) == 1:
        for path in images:
            read_image(path)
        for path in videos:
            open_moving(path).close()


def count_pictures(source: str, pictures: Sequence[Path], videos: Sequence[Path]) -> int | None:
    """How many images and frames there are; None where that is not known."""
    from mbvision.data.animation import open_moving

    count = len(pictures)
    for path in videos:
        try:
            with open_moving(path) as video:
                declared = video.frames_declared
        except VideoError:
            continue  # said when its turn comes
        if declared is None:
            return None
        count += declared
    return None if source.startswith("camera:") else count


def moving_sources(
    camera: int | None, images: Sequence[Path], videos: Sequence[Path]
) -> "list[tuple[Path, Callable[[], FrameSource]]]":
    """What is gone through frame by frame, images as one video: what it is named after, and what opens it."""
    from mbvision.data.animation import open_moving
    from mbvision.data.frames import Camera, PictureSequence

    if camera is not None:
        return [(Path(f"camera-{camera}"), partial(Camera, camera))]
    found: list[tuple[Path, Callable[[], FrameSource]]] = []
    if images:
        folder = images[0].absolute().parent.name
        found.append((Path(f"{folder}.images"), partial(PictureSequence, images)))
    return found + [(path, partial(open_moving, path)) for path in videos]
