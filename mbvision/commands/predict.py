"""``predict``: what a checkpoint finds in pictures, drawn and as JSON."""

import glob
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mbvision.commands.compose import compose_config, wants_help
from mbvision.data.images import SUFFIXES
from mbvision.errors import ConfigError, ImageError

HELP = """\
Predict on pictures: python tools/predict.py checkpoint=best.ckpt source=PICTURE

  checkpoint=PATH         a checkpoint of train
  source=PATH             a picture, a folder of pictures, or a glob such as 'photos/*.jpg'
  output=predictions      folder for STEM.jpg (annotated) and STEM.json
  score_threshold=0.3     what is drawn and written
  device=auto             cpu, cuda, cuda:1, mps

In Python: model = mbvision.load("best.ckpt"); result = model.predict("picture.jpg")"""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Predict on every picture; one that cannot be read is named and skipped (exit code 3), if it is not alone."""
    if wants_help(arguments):
        print(HELP)
        return 0
    config = compose_config("predict", arguments)
    threshold = config["score_threshold"]
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigError(f"score_threshold={threshold}: must be in 0..1")
    sources = find_pictures(config["source"])

    from mbvision.draw import draw_boxes, save_image
    from mbvision.inference.predictor import load, to_array

    output = Path(config["output"])
    stems = unique_stems(sources)
    written = {(output / f"{stem}.jpg").resolve() for stem in stems}
    if touched := [source for source in sources if source.resolve() in written]:
        raise ConfigError(f"output={output} would overwrite {touched[0]}: name another folder")
    model = load(config["checkpoint"], device=config["device"])
    names = model.class_names["detection"]
    output.mkdir(parents=True, exist_ok=True)
    skipped = 0
    for source, stem in tqdm(list(zip(sources, stems, strict=True)), unit="picture", disable=len(sources) == 1):
        try:
            image = to_array(source)
        except ImageError as error:
            if len(sources) == 1:
                raise
            logger.warning("skipped: %s", error)
            skipped += 1
            continue
        result = model.predict(image).above(threshold)
        drawn = draw_boxes(image, result.boxes, result.labels, names, scores=result.scores)
        save_image(output / f"{stem}.jpg", drawn)
        (output / f"{stem}.json").write_text(json.dumps(result.as_json(str(source)), indent=1))
    print(f"{len(sources) - skipped} of {len(sources)} pictures, drawn and as JSON, in {output}")
    return 3 if skipped else 0


def find_pictures(source: str) -> list[Path]:
    """The files that ``source`` means, sorted. Raises `ConfigError` if there are none."""
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES]
    elif path.exists():
        found = [path]
    else:
        found = [Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file()]
    if not found:
        raise ConfigError(f"source={source}: no picture there; give a file, a folder or a glob in quotes")
    return sorted(found)


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
