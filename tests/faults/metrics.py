"""Ten thousand random sets against pycocotools, and every small data set over one to four processes.

    python -m tests.faults.metrics [SETS]

prints the largest difference, and a table of processes by data set sizes; exit code 1 where anything differs.
"""

import multiprocessing
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import distributed
from torch.multiprocessing.spawn import start_processes
from tqdm import trange

from mbvision.data.sampling import EpochSampler
from mbvision.metrics.coco_ap import Backend, coco_ap
from tests import test_box_evaluator as box_case
from tests import test_mean_iou as mask_case
from tests.box_sets import pycocotools_scores, random_set

BACKENDS: tuple[Backend, ...] = ("pycocotools", "hotcoco")
PROCESSES, SIZES = (1, 2, 3, 4), range(1, 18)
TOLERANCE = 1e-12


def largest_differences(sets: int) -> dict[Backend, float]:
    """Of the twelve numbers, between each backend and pycocotools run on its own."""
    worst = dict.fromkeys(BACKENDS, 0.0)
    for seed in trange(sets, desc="random sets", disable=None):
        random = np.random.default_rng(seed)
        counts = {
            "images": int(random.integers(1, 10)),
            "detections": int(random.integers(1, 200)),
        }  # its loadRes wants one
        annotations, results = random_set(seed, **counts)
        expected = pycocotools_scores(annotations, results).stats
        for backend in BACKENDS:
            found = np.array(list(coco_ap(annotations, results, backend=backend).numbers.values()))
            worst[backend] = max(worst[backend], float(abs(found - expected).max()))
    return worst


def share(rank: int, processes: int, size: int) -> list[list[int]]:
    """The batches of three that the evaluation's sampler gives a process."""
    sampler = EpochSampler(length=size, rank=rank, world_size=processes, even=False)
    positions = [draw.position for draw in sampler]
    return [positions[start : start + 3] for start in range(0, len(positions), 3)]


def boxes(size: int, batches: list[list[int]], style: str) -> dict[str, Any]:
    """Detection metrics of a random set of ``size`` images, of which this process sees some."""
    annotations, results = random_set(size, images=size)
    return box_case.evaluate(annotations, results, batches, style=style)


def score(rank: int, processes: int, folder: Path) -> None:
    """One process of a group that goes through all sizes."""
    store = f"file://{folder}/store{processes}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
    found = {size: scores(size, share(rank, processes, size)) for size in SIZES}
    distributed.destroy_process_group()
    (folder / f"{rank} of {processes}").write_bytes(pickle.dumps(found))


def scores(size: int, batches: list[list[int]]) -> list[dict[str, Any]]:
    """COCO's, VOC's and the masks' metrics."""
    return [boxes(size, batches, "coco"), boxes(size, batches, "voc"), mask_case.evaluate(size, batches)]


def table(folder: Path) -> list[list[bool]]:
    """Whether every process of a group got the numbers of one, by number of processes and size."""
    expected = {size: scores(size, [list(range(size))]) for size in SIZES}
    multiprocessing.set_forkserver_preload([__name__])
    rows = []
    for processes in PROCESSES:
        start_processes(score, args=(processes, folder), nprocs=processes, start_method="forkserver")
        found = [pickle.loads((folder / f"{rank} of {processes}").read_bytes()) for rank in range(processes)]
        rows.append([all(one[size] == expected[size] for one in found) for size in SIZES])
    return rows


def main() -> int:
    """Both tables."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    worst = largest_differences(sets)
    for backend, difference in worst.items():
        print(f"{sets} random sets, backend={backend}: largest difference from pycocotools {difference:.1e}")
    with tempfile.TemporaryDirectory() as folder:
        rows = table(Path(folder))
    print("metrics equal to one process's to the last bit (AP, VOC AP, mIoU), by images:")
    print("processes  " + " ".join(f"{size:>3}" for size in SIZES))
    for processes, row in zip(PROCESSES, rows, strict=True):
        print(f"{processes:<11}" + " ".join("yes" if equal else " NO" for equal in row))
    return 0 if max(worst.values()) < TOLERANCE and all(map(all, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
