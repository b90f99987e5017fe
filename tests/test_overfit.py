"""A batch that is overfitted is scored as what the network has learnt. Long runs: benchmarks/results/overfit.md."""

from pathlib import Path

import pytest

from benchmarks.overfit import batch_scores
from mbvision.commands import train
from mbvision.data.scenes import make_scenes
from tests.tiny_runs import arguments

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")


def test_overfitting_reaches_the_score_of_the_batchs_own_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_scenes(tmp_path / "scenes", train_images=8, val_images=2)
    monkeypatch.setattr("mbvision.data.scenes.make_scenes", lambda root: None)  # it would ask for the whole set
    run = tmp_path / "run"
    few = ["loader.batch_size=4", "trainer.max_epochs=60", "trainer.check_val_every_n_epoch=30", f"run_dir={run}"]
    base = [key for key in arguments(tmp_path / "scenes") if not key.startswith(("data", "trainer", "loader.b", "ema"))]
    data = [f"data.root={tmp_path / 'scenes'}", "task=[ssdlite,lraspp]", "input_size=96", "output_stride=16"]
    train.main([*base, *data, "trainer=overfit", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", *few])
    scores = batch_scores(run)
    for scored, by_its_own_statistics, _ in scores.values():
        assert abs(scored - by_its_own_statistics) < 0.02
    assert scores["detection"][0] > 0.8 and scores["segmentation"][0] > 0.4 * scores["segmentation"][2]
