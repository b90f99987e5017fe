"""Stop a run of two epochs after each of its 40 steps, and go on: every end must be that of the run never stopped.

    python -m tests.faults.resumes [EVERY=1]     # 4: after every fourth step alone

Weights, their average, momentum, schedule, progress, the losses in the table and the order of the images are compared,
to the last bit; the run that goes on has another number of loader processes by turns.
"""

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from mbvision import checkpoint
from tests.faults.kills import equal
from tests.tiny_runs import config, fit, keep_every_checkpoint, watch, write_coco

STEPS = 40
KEYS = (
    "state_dict",
    "current_model_state",
    "averaging_state",
    "optimizer_states",
    "lr_schedulers",
    "epoch",
    "global_step",
)


def main() -> int:
    """Print the steps from which the end differs; 0 if there is none."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    differing, steps = [], range(every, STEPS + 1, every)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        root = write_coco(place / "coco", train=STEPS, val=2)  # two a step, two epochs
        with pytest.MonkeyPatch.context() as patch:
            keep_every_checkpoint(patch, place)
            ids, _ = watch(patch)
            fit(config(root, "checkpoint_every_n_steps=1"), place / "whole")
        whole = checkpoint.read(place / "whole" / "last.ckpt")
        table = (place / "whole" / "metrics.csv").read_text().splitlines()
        if len(ids) != STEPS or whole["global_step"] != STEPS or len(table) != STEPS + 1:
            raise RuntimeError(f"the undisturbed run took {len(ids)} steps and has {len(table)} lines in its table")
        for step in steps:
            folder = place / f"from_{step}"
            with pytest.MonkeyPatch.context() as patch:
                resumed_ids, _ = watch(patch)
                fit(config(root, f"loader.workers={step % 2}"), folder, resume=place / f"step_{step}.ckpt")
            found = checkpoint.read((folder if step < STEPS else place / "whole") / "last.ckpt")
            same = resumed_ids == ids[step:] and all(equal(found[key], whole[key]) for key in KEYS)
            rows = (folder / "metrics.csv").read_text().splitlines()[1:] if step < STEPS else []
            if not same or rows != table[step + 1 :]:
                differing.append(step)
            print("." if same else f"[{step}]", end="", flush=True)
    print(
        f"\nresumed {len(steps)} times: {len(steps) - len(differing)} ends are equal bit for bit; others: {differing}"
    )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
