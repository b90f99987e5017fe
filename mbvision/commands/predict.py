"""``predict``: what a checkpoint finds in pictures and videos, drawn, as masks, and as JSON."""

import glob
import itertools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mbvision.commands.compose import compose_config, wants_help
from mbvision.commands.threads import computing_on
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError, ImageError, VideoError
from mbvision.writing import replace_text

if TYPE_CHECKING:
    from mbvision.data.frames import FrameSource
    from mbvision.inference.predictor import Predictor

HELP = """\
Predict on pictures and videos: python tools/predict.py checkpoint=best.ckpt source=PICTURE_OR_VIDEO

  checkpoint=PATH         a checkpoint of train, its weights as safetensors, or an exported file (.onnx, .xml, .pte)
  source=PATH             a picture, a video, a folder, a glob such as 'photos/*.jpg', or camera:0
  output=predictions      folder for STEM.jpg, STEM.json and STEM.png (masks), and for STEM.mp4
  save=video              masks, json, or a list such as [video,json]; default: all of them for pictures, video for
                          videos; save=video makes one video of a folder of pictures
  score_threshold=0.3     what is drawn and written
  smoothing=0.0           0.8: steadier masks in videos
  device=auto             cpu, cuda, cuda:1, mps
  runtime=auto            on the processor the fastest of torch, onnx (ONNX Runtime) and openvino, those that are
                          installed; for 500 pictures or frames and more the checkpoint is exported for them once
  threads=4               of the processor; default: one a core
  precision=float32       bf16: OpenVINO's, coarser and faster where the processor has it

In Python: model = mbvision.load("best.ckpt"); result = model.predict("picture.jpg")
           for frame, result in model.predict_video("video.mp4"): ..."""

KINDS = ("video", "masks", "json")

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Predict on everything; what cannot be read is named and skipped (exit code 3), if it is not alone."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    config = compose_config("predict", arguments)
    with computing_on(config["threads"]):
        return predict(config)


def predict(config: Mapping[str, Any]) -> int:
    """Predict by a configuration; gives the exit code."""
    threshold, save = config["score_threshold"], _kinds(config["save"])
    output = Path(config["output"])
    pictures, videos = ([], []) if config["source"].startswith("camera:") else find_sources(config["source"])

    from mbvision.inference.predictor import load

    _refuse_overwriting(output, pictures, videos)
    model = load(
        config["checkpoint"],
        device=config["device"],
        runtime=config["runtime"],
        precision=config["precision"],
        pictures=count_pictures(config["source"], pictures, videos),
    )
    for key, given in (("save=masks", "masks" in save), (f"smoothing={config['smoothing']}", config["smoothing"])):
        if given and "segmentation" not in model.tasks:
            raise ConfigError(f"{key} is for masks, which this network does not give")
    output.mkdir(parents=True, exist_ok=True)
    whole = True
    if pictures and "video" not in save:
        whole &= predict_pictures(model, pictures, output, save=save, threshold=threshold)
    moving = _frame_sources(config["source"], pictures if "video" in save else [], videos)
    for stem, opened in moving:
        from mbvision.commands.predict_video import predict_frames

        settings: dict[str, Any] = {"score_threshold": threshold, "smoothing": config["smoothing"]}
        try:
            whole &= predict_frames(model, opened(), output, stem, save=save or ("video",), **settings)
        except VideoError as error:
            if len(moving) == 1 and not pictures:
                raise
            logger.warning("skipped: %s", error)
            whole = False
    return 0 if whole else 3


def predict_pictures(
    model: "Predictor", paths: Sequence[Path], output: Path, *, save: Sequence[str], threshold: float
) -> bool:
    """Each picture on its own; whether all could be read."""
    from mbvision.draw import save_image
    from mbvision.inference.predictor import to_array

    skipped = 0
    for path, stem in tqdm(list(zip(paths, unique_stems(paths), strict=True)), unit="picture", disable=len(paths) == 1):
        try:
            image = to_array(path)
        except ImageError as error:
            if len(paths) == 1:
                raise
            logger.warning("skipped: %s", error)
            skipped += 1
            continue
        result = model.predict(image).above(threshold)
        if not save:
            save_image(output / f"{stem}.jpg", model.draw(image, result))
        if not save or "json" in save:
            replace_text(output / f"{stem}.json", json.dumps(result.as_json(str(path)), indent=1))
        if result.mask is not None and (not save or "masks" in save):
            save_image(output / f"{stem}.png", result.mask)
    print(f"{len(paths) - skipped} of {len(paths)} pictures, in {output}")
    return not skipped


def _kinds(save: Any) -> tuple[str, ...]:
    kinds = tuple(save) if isinstance(save, list) else () if save is None else (save,)
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise ConfigError(f"save={wrong[0]}: choose {', '.join(KINDS)}, or a list of them")
    return kinds


def find_sources(source: str) -> tuple[list[Path], list[Path]]:
    """The pictures and the videos that ``source`` means, sorted. Raises `ConfigError` if there are none."""
    from mbvision.data import images, video

    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in images.SUFFIXES + video.SUFFIXES]
    elif path.exists():
        found = [path]
    else:
        found = [Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file()]
    if not found:
        raise ConfigError(f"source={source}: no picture or video there; give a file, a folder or a glob in quotes")
    videos = [p for p in found if p.suffix.lower() in video.SUFFIXES]
    return sorted(set(found) - set(videos)), sorted(videos)


def count_pictures(source: str, pictures: Sequence[Path], videos: Sequence[Path]) -> int | None:
    """How many pictures and frames there are; None where that is not known."""
    from mbvision.data.video import open_video

    count = len(pictures)
    for path in videos:
        try:
            with open_video(path) as video:
                declared = video.frames_declared
        except VideoError:
            continue  # told when its turn comes
        if declared is None:
            return None
        count += declared
    return None if source.startswith("camera:") else count


def _frame_sources(
    source: str, pictures: Sequence[Path], videos: Sequence[Path]
) -> "list[tuple[str, Callable[[], FrameSource]]]":
    """What is to be gone over frame by frame: the name of what is written, and what opens it."""
    from mbvision.data.frames import Camera, PictureSequence
    from mbvision.data.video import open_video

    if source.startswith("camera:"):
        number = source.removeprefix("camera:")
        if not number.isdecimal():
            raise ConfigError(f"source={source}: name the camera by its number, as camera:0")
        return [(f"camera-{number}", partial(Camera, int(number)))]
    found: list[tuple[str, Callable[[], FrameSource]]] = []
    if pictures:
        found.append((pictures[0].absolute().parent.name, partial(PictureSequence, pictures)))
    return found + [(stem, partial(open_video, path)) for path, stem in zip(videos, unique_stems(videos), strict=True)]


def _refuse_overwriting(output: Path, pictures: Sequence[Path], videos: Sequence[Path]) -> None:
    written = {(output / f"{stem}.{kind}").resolve() for stem in unique_stems(pictures) for kind in ("jpg", "png")}
    written |= {(output / f"{stem}.mp4").resolve() for stem in unique_stems(videos)}
    if touched := [source for source in (*pictures, *videos) if source.resolve() in written]:
        raise ConfigError(f"output={output} would overwrite {touched[0]}: name another folder")


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """The files' names without suffix; with it, or with a number, where that name is taken."""
    stems: list[str] = []
    taken: set[str] = set()
    for path in paths:
        numbered = (f"{path.stem}-{number}" for number in itertools.count(2))
        stem = next(name for name in itertools.chain([path.stem, path.name], numbered) if name not in taken)
        taken.add(stem)
        stems.append(stem)
    return stems
