"""The part of ``predict`` that goes over moving pictures: an annotated video, masks, and a JSON line for each frame."""

import json
import logging
import os
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from mbvision.data.frames import Camera, FrameSource
from mbvision.draw import save_image, write_text
from mbvision.inference.predictor import Predictor
from mbvision.inference.video_writer import VideoWriter

logger = logging.getLogger(__name__)


def predict_frames(
    model: Predictor,
    source: FrameSource,
    output: Path,
    stem: str,
    *,
    save: Collection[str],
    score_threshold: float,
    smoothing: float,
) -> bool:
    """Write what ``save`` asks for as ``STEM.mp4``, ``STEM.jsonl`` and ``STEM_masks/000000.png``; whether all was read.

    Everything appears under its name at the end, so what is there is whole. Ctrl-C ends the video at that frame.
    """
    with ExitStack() as stack:
        stack.enter_context(source)
        run = stack.enter_context(model.run(source, smoothing=smoothing))
        video = None
        if "video" in save:
            path = output / f"{stem}.mp4"
            writer = VideoWriter(path, size=source.size, rate=source.rate, pixel_aspect=source.pixel_aspect)
            video = stack.enter_context(writer)
        log = None
        if "json" in save:
            partial = output / f".{stem}.jsonl.{os.getpid()}.partial"
            log = stack.enter_context(partial.open("w", encoding="utf-8"))
            stack.callback(partial.unlink, missing_ok=True)
        progress = stack.enter_context(tqdm(total=source.frames_declared, unit="frame", desc=stem))
        try:
            for frame, result in run:
                shown = result.above(score_threshold)
                if video:
                    drawn = model.draw(frame.image, shown)
                    write_text(drawn, f"{run.fps:.1f} frames/s")
                    video.write(drawn, frame.time_s)
                if "masks" in save and shown.mask is not None:
                    save_image(output / f"{stem}_masks" / f"{frame.index:06d}.png", shown.mask)
                if log:
                    content = {"frame": frame.index, "time_s": frame.time_s, **shown.as_json(source.name)}
                    log.write(json.dumps(content) + "\n")
                progress.update()
        except KeyboardInterrupt:
            logger.warning("stopped after %d frames", run.frames)
        if log:
            log.close()
            os.replace(partial, output / f"{stem}.jsonl")
    rate = f"{run.mean_fps:.1f} frames/s in all, {run.step_ms:.1f} ms a frame in the network"
    print(f"{source.summary}; {rate}; written to {output}")
    return source.damage is None or isinstance(source, Camera)  # a camera ends when it is switched off
