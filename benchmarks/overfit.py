"""Does each task learn a batch, and is it scored as what it has learnt?

    python benchmarks/overfit.py FOLDER [KEY=VALUE ...]

``trainer=overfit`` with the default keys of five tasks, and those given (a size, a place for the data). Printed for
each head are the score in ``metrics.json``, which is by the running statistics of ``best.ckpt``; the score of the same
weights by the batch's own statistics; and for masks what the true ones reach when averaged to the head's grid and back.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor, nn
from torch.nn import functional

from mbvision import checkpoint
from mbvision.build import input_size
from mbvision.commands import fitting, train
from mbvision.commands.run_folder import read_command
from mbvision.structures import IGNORE

TASKS = ("ssdlite", "lraspp", "deeplabv3", "[ssdlite,lraspp]", "classification")


def batch_scores(folder: Path) -> dict[str, tuple[float, float, float]]:
    """Of each head of a run: its score, that by the batch's own statistics, and the highest that its grid allows."""
    config = train.compose_command(read_command(folder / "config.yaml"))[0]
    readers = fitting.build_readers(config)
    data = fitting.build_data(config, *readers, input_size(config))
    batch, shown = next(iter(data.val_dataloader())), next(iter(data.train_dataloader()))
    images, size = batch.float_images(), (batch.images.shape[2], batch.images.shape[3])
    network, tasks = checkpoint.load(folder / "best.ckpt")
    network.eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train()  # its batch's own statistics, without dropout
    with torch.no_grad():
        outputs = network(images)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    found = {}
    for name, task in tasks.items():

        def score(raw: Any, name: str = name, task: Any = task) -> float:
            evaluator = task.evaluator(readers[1].truth[name])
            evaluator.update(task.predict(raw, size), batch.targets)
            return float(evaluator.compute()[task.metric])

        most = 1.0
        if name == "segmentation":
            masks = torch.stack([target.mask for target in shown.targets if target.mask is not None])
            most = score(outputs[name]._replace(logits=on_grid(masks, outputs[name].logits)))
        scored = metrics.get(name, metrics)[task.metric]
        found[name] = (float(scored), score(outputs[name]), most)
    return found


def on_grid(masks: Tensor, logits: Tensor) -> Tensor:
    """The share of each class in each cell of the head's grid."""
    known = (
        functional.one_hot(masks.long().masked_fill(masks == IGNORE, 0), logits.shape[1]) * (masks != IGNORE)[..., None]
    )
    return functional.adaptive_avg_pool2d(known.movedim(-1, 1).float(), logits.shape[2:])


def main(arguments: Sequence[str]) -> None:
    """Train and score one after the other."""
    folder, *keys = arguments
    for task in TASKS:
        run = Path(folder) / task.strip("[]")
        if not (run / "metrics.json").exists():
            train.main([f"task={task}", "trainer=overfit", *keys, f"run_dir={run}"])
        for head, numbers in batch_scores(run).items():
            print(f"{task} {head}: score %.4f, by the batch's own statistics %.4f, at most %.4f" % numbers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
