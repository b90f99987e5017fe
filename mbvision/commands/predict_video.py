"""The part of ``predict`` that goes over moving pictures: an annotated video, masks, and a JSON line for each frame."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mbvision import stopping
from mbvision.data.frames import Camera, FrameSource, VideoFrame
from mbvision.draw import save_image, write_text
from mbvision.inference.predictor import Predictor
from mbvision.inference.result import Result
from mbvision.inference.video_writer import VideoWriter
from mbvision.writing import replacing_folder, temporary_of, writing


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

    Everything appears under its name at the end, so what is there is whole, and nothing of an earlier run is among it.
    A signal that asks to stop ends the video at that frame: what was written is kept, and `Stopped` raised.
    """
    stopping.defer()
    written = 0
    try:
        with ExitStack() as stack:
            stack.enter_context(source)
            run = stack.enter_context(model.run(source, smoothing=smoothing))
            write = stack.enter_context(_outputs(model, source, output, stem, save))
            progress = stack.enter_context(tqdm(total=source.frames_declared, unit="frame", desc=stem))
            with suppress(stopping.Stopped):  # a second Ctrl-C: what was written is kept all the same
                for frame, result in run:
                    write(frame, result.above(score_threshold), run.fps)
                    written += 1
                    progress.update()
                    if stopping.requested():
                        break
            stopping.finish()
        read = f"{source.name}: stopped after {written} frames" if stopping.requested() else source.summary
        rate = f"{run.mean_fps:.1f} frames/s in all, {run.step_ms:.1f} ms a frame in the network"
        print(f"{read}; {rate}; written to {output}")
    finally:
        stopping.resume_raising(f"after {written} frames of {source.name}, which are kept in {output}")
    return source.damage is None or isinstance(source, Camera)  # a camera ends when it is switched off


Write = Callable[[VideoFrame, Result, float], None]


@contextmanager
def _outputs(model: Predictor, source: FrameSource, output: Path, stem: str, save: Collection[str]) -> Iterator[Write]:
    """What writes a frame, its result and the frames per second until now to all files that ``save`` asks for."""
    with ExitStack() as stack:
        video = masks = log = None
        if "video" in save:
            path = output / f"{stem}.mp4"
            writer = VideoWriter(path, size=source.size, rate=source.rate, pixel_aspect=source.pixel_aspect)
            video = stack.enter_context(writer)
        if "masks" in save:
            masks = stack.enter_context(replacing_folder(output / f"{stem}_masks"))
        if "json" in save:
            log = stack.enter_context(_lines(output / f"{stem}.jsonl"))

        def write(frame: VideoFrame, result: Result, fps: float) -> None:
            if video:
                drawn = model.draw(frame.image, result)
                write_text(drawn, f"{fps:.1f} frames/s")
                video.write(drawn, frame.time_s)
            if masks and result.mask is not None:
                save_image(masks / f"{frame.index:06d}.png", result.mask)
            if log:
                log({"frame": frame.index, "time_s": frame.time_s, **result.as_json(frame.name)})

        yield write


@contextmanager
def _lines(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What adds a line of JSON to a file, which is there at the end, or not at all after an error."""
    temporary = temporary_of(path)
    try:
        with writing(path):
            file = temporary.open("w", encoding="utf-8")

        def add(content: Mapping[str, Any]) -> None:
            with writing(path):
                file.write(json.dumps(content) + "\n")

        with file:
            yield add
            with writing(path):
                file.close()
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
