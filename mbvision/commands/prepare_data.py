"""``prepare_data``: unpack and check official archives, convert YOLO sets, make the built-in sets."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mbvision.commands.compose import wants_help
from mbvision.commands.typed import as_typed
from mbvision.data.portraits import make_portraits
from mbvision.data.prepare import OFFICIAL, describe, prepare
from mbvision.data.scenes import make_scenes
from mbvision.data.yolo import convert_yolo
from mbvision.errors import ConfigError, nearest

HELP = f"""\
Prepare a data set: python tools/prepare_data.py data=coco archives=DOWNLOADS data.root=datasets/coco

  data=NAME          {", ".join(OFFICIAL)}: unpack and check the official archives that you have downloaded
                     yolo: convert a YOLO txt set to COCO JSON; scenes, portraits: make the built-in sets
  archives=FOLDER    where the archives lie; without it, the archives, their sizes and their pages are listed
  source=FOLDER      of data=yolo: the folder with data.yaml
  data.root=FOLDER   where the result goes

Nothing is ever downloaded."""
KEYS = ("data", "archives", "source", "data.root")


def main(arguments: Sequence[str]) -> int:
    """Prepare one data set."""
    if wants_help(arguments) or not arguments:
        print(as_typed(HELP))
        return 0
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in KEYS:
            raise ConfigError(f"{argument}: there is no such key{nearest(key, KEYS)}; --help shows the keys")
        given[key] = value
    name = given.get("data", "")
    if name not in (*OFFICIAL, "yolo", "scenes", "portraits"):
        raise ConfigError(f"data={name}: choose {', '.join(OFFICIAL)}, yolo, scenes or portraits")
    default = "VOCdevkit" if name.startswith("voc") else name
    root = Path(given.get("data.root", f"datasets/{default}"))
    if name == "yolo":
        if "source" not in given:
            raise ConfigError("data=yolo needs source=FOLDER, the folder with data.yaml")
        files = convert_yolo(Path(given["source"]), root)
        for split, file in files.items():
            print(f"{split}: {file}")
        train = next((split for split in files if split.startswith("train")), next(iter(files)))
        others = [split for split in files if split != train]
        val = next((split for split in others if split.startswith("val")), next(iter(others), None))
        keys = [f"data.root={root}", f"data.images={given['source']}", f"data.train_split={train}"]
        if val is None:
            print(f"there is no split but {train}: put images and labels of a second one beside it, to score by")
        else:
            command = f"python tools/train.py data=coco {shlex.join([*keys, f'data.val_split={val}'])}"
            print(f"train with: {as_typed(command)}")
    elif name == "scenes":
        make_scenes(root)
    elif name == "portraits":
        make_portraits(root)
    elif "archives" not in given:
        print(f"{name} needs these archives:\n{describe(name)}\nthen: {_command(name, root)}")
    else:
        for path, count in prepare(name, Path(given["archives"]), root).items():
            print(f"{count:>8}  {path}")
    return 0


def _command(name: str, root: Path) -> str:
    return as_typed(f"python tools/prepare_data.py data={name} archives=FOLDER data.root={root}")
