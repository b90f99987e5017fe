"""Two processes score as one does, train together, and agree on what is skipped."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mbvision.data.collate import collate
from mbvision.data.sampling import Draw
from mbvision.engine.guard import StepGuard, agreed
from mbvision.errors import TrainingError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")
REPOSITORY = Path(__file__).resolve().parent.parent


def _train_with_a_bad_loss(rank: int, folder: str) -> None:
    """Two processes; rank 1's second and third loss is not finite, with image ids 10 x step + rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    wrapped = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    guard = StepGuard(network, max_bad_steps=1)
    history, error = [network.state_dict()], ""
    for step in range(4):
        history.append({key: value.clone() for key, value in network.state_dict().items()})
        inputs = torch.rand(2, 4) * (math.nan if rank == 1 and step in (1, 2) else 1.0)
        guard.start_batch()
        loss = wrapped(inputs).sum()
        guard.see_loss(loss, [10 * step + rank])
        optimizer.zero_grad()
        loss.backward()
        try:
            guard.end_step(check_gradients=True)
        except TrainingError as caught:
            error = str(caught)
            break
        optimizer.step()
    both = agreed(torch.tensor(rank == 0))
    history.append(network.state_dict())
    torch.save({"history": history[1:], "error": error, "both": both}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_both_processes_skip_a_step_that_one_of_them_cannot_take(tmp_path: Path) -> None:
    mp.start_processes(_train_with_a_bad_loss, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["error"] == second["error"]
    assert "2 steps in a row" in first["error"] and "images [21]" in first["error"]
    for found in (first, second):
        assert not found["both"]
        before, stepped, skipped, skipped_again = found["history"]
        assert not torch.equal(before["0.weight"], stepped["0.weight"])
        assert all(torch.equal(stepped[key], skipped[key]) for key in stepped)
        assert all(torch.equal(stepped[key], skipped_again[key]) for key in stepped)
    weights = [found["history"][-1]["0.weight"] for found in (first, second)]
    assert torch.equal(*weights)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, "subprocess.CompletedProcess[str]"]:
    """The data and the folder of a run of one process for a step and of two for the rest, and what the two said."""
    from tests.tiny_runs import arguments, config, fit, write_coco

    folder = tmp_path_factory.mktemp("distributed")
    root = write_coco(folder / "coco", train=7, val=7)
    fit(config(root, "trainer.max_steps=1"), folder / "run")
    command = [
        sys.executable,
        str(REPOSITORY / "tools" / "train.py"),
        *arguments(root, "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=1"),
        f"run_dir={folder / 'run'}",
        f"resume={folder / 'run' / 'last.ckpt'}",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    return root, folder / "run", done


def test_two_processes_train_and_rank_0_alone_writes(
    run: tuple[Path, Path, "subprocess.CompletedProcess[str]"],
) -> None:
    _, folder, done = run
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("scored 7 of 7 pictures") == 1
    assert {path.name for path in folder.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "config.yaml",
        "metrics.json",
        "metrics.csv",
        "curves.png",
        "samples",
        "predictions.json",
    }
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 3  # of the other 5, 3 each, 2 a batch
    assert [row.split(",")[0] for row in (folder / "metrics.csv").read_text().splitlines()] == ["step", "0", "1", "2"]
    said = (
        "batches of 2 on 2 processes (they were 2 on 1 process): 2 of 7 samples of epoch 0 were shown, left are 5 in 2"
    )
    assert done.stderr.count(said) == 1
    assert "sync_dist" not in done.stderr


def test_statistics_of_two_processes_are_those_of_all_their_batches(
    run: tuple[Path, Path, "subprocess.CompletedProcess[str]"],
) -> None:
    from mbvision import checkpoint
    from tests.test_norm_statistics import population_statistics, statistics
    from tests.tiny_runs import build, config

    root, folder, _ = run
    dataset = build(config(root))[1].train_set
    assert dataset is not None
    batches = [  # two processes take every other sample, two to a batch; the eighth is the first again
        collate([dataset[Draw(0, place % 7)] for place in places]).float_images()
        for places in ((0, 2), (4, 6), (1, 3), (5, 7))
    ]
    network = checkpoint.load(folder / "best.ckpt")[0]
    torch.testing.assert_close(statistics(network), population_statistics(network, batches), rtol=1e-4, atol=1e-5)


def without_place(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key not in ("step", "epoch")}


def test_two_processes_score_every_image_once_and_as_one_process_does(
    run: tuple[Path, Path, "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    from mbvision.commands import evaluate

    root, folder, _ = run
    output = tmp_path / "one.json"
    data = ["data=coco", f"data.root={root}", "data.val_split=val", "loader.workers=0", "loader.batch_size=2"]
    best = f"checkpoint={folder / 'best.ckpt'}"
    evaluate.main([*data, best, "device=cpu", f"output={output}", f"output_dir={tmp_path}"])
    two, one = (json.loads(path.read_text()) for path in (folder / "metrics.json", output))
    assert two["images"] == two["images_total"] == 7
    assert without_place(two) == without_place(one)
    found, expected = (json.loads((place / "predictions.json").read_text()) for place in (folder, tmp_path))
    assert len(found) == len(expected) > 7
    assert [(row["image_id"], row["category_id"]) for row in found] == [
        (row["image_id"], row["category_id"]) for row in expected
    ]
