"""``evaluate``: score a checkpoint on a data set, or results that another program wrote."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.commands.compose import compose_config, wants_help
from mbvision.commands.places import check_places
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError
from mbvision.metrics.report import format_table, write_metrics

HELP = """\
Score a checkpoint: python tools/evaluate.py checkpoint=best.ckpt data=coco data.root=FOLDER
Score boxes of another program: python tools/evaluate.py predictions=results.json annotations=instances.json
Score masks of another program: python tools/evaluate.py predictions=FOLDER data=cityscapes data.root=FOLDER

  checkpoint=PATH         a checkpoint of train, or an exported file (.onnx, .xml, .pte)
  data=scenes             coco, voc, cityscapes, camvid, masks_folder, imagenet, image_folder; data.root=FOLDER
                          data.images=FOLDER
  split=NAME              default data.val_split       tasks=[detection]   of several heads this one alone
  score_threshold=0.001   default: the checkpoint's
  input_size=[512,1024]   default: the checkpoint's
  scales=[0.75,1.0,1.25]  flip=true             segmentation: averages over scales and mirror images
  window=true             segmentation: pictures at their own size, in windows as large as the input
  predictions=PATH        COCO results JSON, a folder of VOC comp4 text files, or a folder of mask PNGs
  annotations=PATH        instances JSON, a VOC split file (ImageSets/Main/val.txt), or a VOC folder with split=
  style=coco              voc: AP of VOC 2007 (11 points) and from 2010 on (area), difficult objects ignored
  iou=0.5                 the overlap that counts in style=voc
  backend=pycocotools     COCO's own matching; default: hotcoco where it is installed (equal numbers, faster)
  output=FILE.json        the numbers with all their digits
  output_dir=FOLDER       predictions.json, comp4 text files, masks/, precision_recall.png, confusion.png, roc.png,
                          samples/; default: evaluation/ beside the checkpoint
  samples=16              pictures of predictions beside the ground truth
  runtime=torch           onnx, openvino, or auto for the fastest: the checkpoint is exported for it once
  loader.batch_size=16    loader.workers=2      device=auto
  threads=4               of the processor; default: one a core"""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Score, print, and write what was asked for."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    config = compose_config("evaluate", arguments)
    if config["style"] == "coco" and any(argument.startswith("iou=") for argument in arguments):
        raise ConfigError("iou= goes with style=voc; COCO's numbers are over ten overlaps, and AP50 is among them")
    if idle := [one for one in arguments if one.startswith(("data.on_bad_item=", "data.max_bad_fraction="))]:
        raise ConfigError(f"{idle[0]} is for training: a score is of all pictures; take a bad one out of the split")
    check_places(config)
    if config["predictions"]:
        metrics = score_file(config)
    elif config["checkpoint"]:
        from mbvision.commands.scoring import score_checkpoint  # slow to import
        from mbvision.commands.threads import computing_on

        with computing_on(config["threads"]):
            metrics = score_checkpoint(config)
    else:
        raise ConfigError("say what to score: checkpoint=PATH, or predictions=PATH with annotations= or data=")
    if config["output"]:
        write_metrics(Path(config["output"]), metrics)
    print(format_table(metrics))
    print(f"\nscored {metrics['images']} of {metrics['images_total']} pictures")
    return 0


def score_file(config: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of another program's results: boxes in a file, or masks in a folder."""
    predictions = Path(config["predictions"])
    if config["annotations"]:
        from mbvision.commands.score import score_results

        return score_results(
            predictions,
            Path(config["annotations"]),
            style=config["style"],
            backend=config["backend"],
            iou=config["iou"],
            split=config["split"],
        )
    if not predictions.is_dir():
        raise ConfigError(
            "predictions= needs the ground truth: annotations=PATH for boxes, data= and data.root= for masks"
        )
    from mbvision.build import build_reader
    from mbvision.commands.score_masks import score_masks
    from mbvision.data.masks import MaskReader

    data = {**config["data"], "val_split": config["split"] or config["data"]["val_split"]}
    reader = build_reader(data, "val_split", tasks=("segmentation",))
    if not isinstance(reader, MaskReader):
        raise ConfigError("predictions=FOLDER scores one set of masks: leave data.sets= out")
    return score_masks(predictions, reader)
