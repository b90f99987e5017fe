"""``predict``: what a checkpoint finds in pictures and videos, drawn, as masks, and as JSON."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbvision.commands.compose import compose_config, wants_help
from mbvision.commands.predict_images import predict_images
from mbvision.commands.predict_outputs import image_outputs, record, refuse_overwriting, unique_stems, video_outputs
from mbvision.commands.predict_sources import (
    camera_number,
    check_lone_source,
    count_pictures,
    find_sources,
    moving_sources,
)
from mbvision.commands.threads import computing_on
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError, ImageError, VideoError

if TYPE_CHECKING:
    pass

HELP = """\
Predict on pictures and videos: python tools/predict.py checkpoint=best.ckpt source=PICTURE_OR_VIDEO

  checkpoint=PATH         a checkpoint of train, its weights as safetensors, or an exported file (.onnx, .xml, .pte)
  source=PATH             an image, a video, an animated GIF or WebP, a folder (without its sub-folders), a glob such as
                          'photos/*.jpg', or camera:0; what a file is, its content says
  output=predictions      folder for STEM.jpg, STEM.json and STEM.png (masks), and for STEM.mp4; files there that no
                          predict has written are never replaced
  save=video              masks, json, or a list such as [video,json]; default: all of them for images, video for
                          videos; save=video makes one video of a folder of images, in natural order (2 before 10)
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
    output, camera = Path(config["output"]), camera_number(config["source"])
    images, videos = ([], []) if camera is not None else find_sources(config["source"])

    from mbvision.inference.predictor import load

    check_lone_source(camera, images, videos)
    moving = moving_sources(camera, images if "video" in save else [], videos)
    alone = [] if "video" in save else images
    stems = unique_stems([path for path, _ in moving])
    names = [*image_outputs(unique_stems(alone), save), *video_outputs(stems, save)]
    refuse_overwriting(output, names, [*images, *videos])
    model = load(
        config["checkpoint"],
        device=config["device"],
        runtime=config["runtime"],
        precision=config["precision"],
        pictures=count_pictures(config["source"], images, videos),
    )
    masks = "segmentation" in model.tasks
    for key, given in (("save=masks", "masks" in save), (f"smoothing={config['smoothing']}", config["smoothing"])):
        if given and not masks:
            raise ConfigError(f"{key} is for masks, which this network does not give")
    record(output, [name for name in names if masks or not name.endswith(".png")])
    whole = True
    if alone:
        whole &= predict_images(model, alone, unique_stems(alone), output, save=save, threshold=threshold)
    for stem, (_, opened) in zip(stems, moving, strict=True):
        from mbvision.commands.predict_video import predict_frames

        settings: dict[str, Any] = {"score_threshold": threshold, "smoothing": config["smoothing"]}
        try:
            whole &= predict_frames(model, opened(), output, stem, save=save or ("video",), **settings)
        except (ImageError, VideoError) as error:
            if len(moving) == 1 and not alone:
                raise
            logger.warning("skipped: %s", error)
            whole = False
    return 0 if whole else 3


def _kinds(save: Any) -> tuple[str, ...]:
    kinds = tuple(save) if isinstance(save, list) else () if save is None else (save,)
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise ConfigError(f"save={wrong[0]}: choose {', '.join(KINDS)}, or a list of them")
    return kinds
