"""``evaluate``: score a checkpoint on a data set, or results that another program wrote."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.commands.compose import compose_config, wants_help
from mbvision.errors import ConfigError
from mbvision.metrics.report import format_table, write_metrics

HELP = """\
Score a checkpoint: python tools/evaluate.py checkpoint=best.ckpt data=coco data.root=FOLDER
Score results of another program: python tools/evaluate.py predictions=results.json annotations=instances.json

  checkpoint=PATH         a checkpoint of train
  data=scenes             coco, voc             data.root=FOLDER   data.images=FOLDER
  split=NAME              default data.val_split
  score_threshold=0.001   default: the checkpoint's
  predictions=PATH        COCO results JSON, or a folder of VOC comp4 text files
  annotations=PATH        instances JSON, a VOC split file (ImageSets/Main/val.txt), or a VOC folder with split=
  style=coco              voc: AP of VOC 2007 (11 points) and from 2010 on (area), difficult objects ignored
  iou=0.5                 the overlap that counts in style=voc
  backend=pycocotools     hotcoco: the same numbers, much faster
  output=FILE.json        the numbers with all their digits
  output_dir=FOLDER       predictions.json, comp4 text files, precision_recall.png, samples/
  samples=16              pictures of predictions beside the ground truth
  loader.batch_size=16    loader.workers=2      device=auto"""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Score, print, and write what was asked for."""
    if wants_help(arguments):
        print(HELP)
        return 0
    config = compose_config("evaluate", arguments)
    if config["predictions"]:
        metrics = score_file(config)
    elif config["checkpoint"]:
        from mbvision.commands.scoring import score_checkpoint  # slow to import

        metrics = score_checkpoint(config)
    else:
        raise ConfigError("say what to score: checkpoint=PATH, or predictions=PATH with annotations=PATH")
    print(format_table(metrics))
    print(f"\nscored {metrics['images']} of {metrics['images_total']} pictures")
    if config["output"]:
        write_metrics(Path(config["output"]), metrics)
    return 0


def score_file(config: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a file of results."""
    from mbvision.commands.score import score_results

    if not config["annotations"]:
        raise ConfigError("predictions= needs the ground truth: annotations=PATH")
    return score_results(
        Path(config["predictions"]),
        Path(config["annotations"]),
        style=config["style"],
        backend=config["backend"],
        iou=config["iou"],
        split=config["split"],
    )
