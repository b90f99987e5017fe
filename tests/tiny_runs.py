"""A data set of a few drawn pictures and the smallest network, for the tests of training."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor

from mbvision.build import build_network, input_size
from mbvision.commands.compose import compose_config
from mbvision.draw import save_image
from mbvision.engine import callbacks
from mbvision.engine.data_module import VisionData
from mbvision.engine.module import VisionModule
from mbvision.structures import Batch

SIZE = 64
SMALL = ["backbone.width=0.35", f"input_size={SIZE}", "loader.batch_size=4", "loader.workers=0"]
SMALLEST = ["backbone=mobilenet_v3_small", *SMALL]


def write_coco(root: Path, *, train: int = 7, val: int = 3, seed: int = 0) -> Path:
    """Folders ``train`` and ``val`` with pictures of one or two filled rectangles (class: bright or dark)."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for index in range(count):
            picture = random.integers(90, 160, (SIZE, SIZE, 3)).astype(np.uint8)
            images.append({"id": index + 1, "file_name": f"{index}.jpg", "width": SIZE, "height": SIZE})
            for category in range(1, 2 + index % 2):
                x, y = (int(v) for v in random.integers(2, 30, 2))
                w, h = (int(v) for v in random.integers(20, 32, 2))
                picture[y : y + h, x : x + w] = 250 if category == 1 else 5
                box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
                annotations.append({"id": len(annotations) + 1, "image_id": index + 1, "category_id": category, **box})
            cv2.imwrite(str(root / split / f"{index}.jpg"), picture)
        categories = [{"id": 1, "name": "bright"}, {"id": 2, "name": "dark"}]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(document))
    return root


def arguments(root: Path, *more: str) -> list[str]:
    """The command line of a tiny run on the processor."""
    return [
        "data=coco",
        f"data.root={root}",
        "data.train_split=train",
        "data.val_split=val",
        "backbone=mobilenet_v3_small",
        "backbone.width=0.35",
        f"input_size={SIZE}",
        "loader.batch_size=2",
        "loader.workers=0",
        "trainer=cpu",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
        "trainer.enable_progress_bar=false",
        "schedule.warmup_steps=3",
        "ema_decay=0.9",
        *more,
    ]


def config(root: Path, *more: str) -> dict[str, Any]:
    """The configuration of a tiny run."""
    return compose_config("train", arguments(root, *more))


def build(settings: dict[str, Any]) -> tuple[VisionModule, VisionData]:
    """Module and data as the command builds them."""
    from mbvision.commands import fitting

    L.seed_everything(settings["seed"], verbose=False)
    train_reader, val_reader = fitting.build_readers(settings)
    names = {name: len(classes) for name, classes in train_reader.class_names.items()}
    network = build_network(settings, names)
    fitting.load_start(network, settings, train_reader.class_names)
    data = fitting.build_data(settings, train_reader, val_reader, input_size(settings))
    return fitting.build_module(settings, network, val_reader), data


def fit(settings: dict[str, Any], folder: Path, *, resume: Path | None = None) -> L.Trainer:
    """Train as the command does, but draw no curves: that would take most of the time."""
    from mbvision.commands import fitting

    folder.mkdir(parents=True, exist_ok=True)
    module, data = build(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mbvision.engine.run_log.plot_curves", lambda history, path: None)
        return fitting.fit(settings, module, data, folder, resume)


def watch(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[int | str]], list[dict[str, Tensor]]]:
    """Lists that grow with every training batch: its images' ids, and the network's state before it."""
    ids: list[list[int | str]] = []
    states: list[dict[str, Tensor]] = []
    step = VisionModule.training_step

    def note(self: VisionModule, batch: Batch, batch_idx: int) -> Tensor:
        ids.append([target.image_id for target in batch.targets])
        states.append({key: value.clone() for key, value in self.network.state_dict().items()})
        return step(self, batch, batch_idx)

    monkeypatch.setattr(VisionModule, "training_step", note)
    return ids, states


def keep_every_checkpoint(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have a copy of each checkpoint left in the folder, as step_N.ckpt."""
    write = callbacks.write

    def keep(path: Path, content: dict[str, Any]) -> None:
        write(path, content)
        shutil.copy(path, folder / f"step_{content['global_step']}.ckpt")

    monkeypatch.setattr(callbacks, "write", keep)


def differing(a: dict[str, Tensor], b: dict[str, Tensor], keys: Sequence[str] | None = None) -> list[str]:
    """The names of tensors that are not equal bit for bit."""
    assert a.keys() == b.keys()
    return [key for key in (keys or a) if not torch.equal(a[key], b[key])]


def write_grays(folder: Path, number: int) -> Path:
    """A folder of ``number`` pictures of 70x50 pixels, each of one gray."""
    for seed in range(number):
        save_image(folder / f"{seed}.png", np.full((50, 70, 3), 10 * seed, dtype=np.uint8))
    return folder
