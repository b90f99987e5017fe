"""best.ckpt is what scored best, whenever in a run, and in the run that goes on from it, that was found."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mbvision import checkpoint
from mbvision.commands import fitting
from mbvision.engine.module import VisionModule
from tests.tiny_runs import build, config, fit, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=5, val=2)


def script_scores(monkeypatch: pytest.MonkeyPatch, scores: Iterable[float]) -> Iterator[float]:
    """Have validations find these; what is left of them."""
    given, whole = iter(scores), VisionModule.on_validation_epoch_end

    def score(module: VisionModule) -> None:
        whole(module)
        module.metrics["detection"] = {**module.metrics["detection"], "AP": next(given)}

    monkeypatch.setattr(VisionModule, "on_validation_epoch_end", score)
    monkeypatch.setattr("mbvision.engine.run_log.plot_curves", lambda history, path: None)
    return given


def fit_and_finish(settings: dict[str, Any], folder: Path, resume: Path | None) -> Mapping[str, Any]:
    module, data = build(settings)
    return fitting.finish(settings, module, data, folder, fitting.fit(settings, module, data, folder, resume))


def test_best_is_kept_when_scores_fall_and_a_tie_goes_to_the_later(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.5, 0.5, 0.3])

    def score(module: VisionModule) -> None:
        module.metrics["detection"] = {"AP": next(scores)}

    monkeypatch.setattr(VisionModule, "on_validation_epoch_end", score)
    fit(config(root, "trainer.max_epochs=4", "trainer.limit_train_batches=1"), tmp_path)
    best, last = (checkpoint.read(tmp_path / f"{name}.ckpt") for name in ("best", "last"))
    assert (best["epoch"], last["epoch"]) == (2, 3)
    assert last["callbacks"]["RunCheckpoints"]["best"] == 0.5


def test_a_best_checkpoint_that_was_never_scored_is_scored_before_it_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = script_scores(monkeypatch, [0.2, 0.1, 0.2])
    fit(config(root, "trainer.max_steps=1"), tmp_path)  # and killed before it was scored
    found = fit_and_finish(config(root, "trainer.max_steps=2"), tmp_path, tmp_path / "last.ckpt")
    assert (found["step"], found["AP"]) == (1, 0.2) and not list(given)
    assert checkpoint.read(tmp_path / "last.ckpt")["callbacks"]["RunCheckpoints"]["best"] == 0.2


@pytest.mark.parametrize(
    ("scores", "steps", "kept"),
    [
        # an epoch is 3 steps; each row has the scores in the order in which they are asked for
        ([0.2, 0.5], (1, 2), [(1, 0.2), (2, 0.5)]),  # at the end, and at the end of the run that goes on
        ([0.2, 0.1, 0.2], (1, 2), [(1, 0.2), (1, 0.2)]),  # the best is scored again where it stays
        ([0.1, 0.5, 0.3, 0.5], (5, 6), [(5, 0.5), (5, 0.5)]),  # after the epoch, at the end; after the second epoch
        ([0.4, 0.3, 0.4, 0.3, 0.4], (4, 5), [(3, 0.4), (3, 0.4)]),
    ],
)
def test_the_best_is_that_of_all_scores_also_of_those_after_the_last_step(
    scores: list[float],
    steps: tuple[int, int],
    kept: list[tuple[int, float]],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = script_scores(monkeypatch, scores)
    for most, (step, best) in zip(steps, kept, strict=True):
        settings = config(root, f"trainer.max_steps={most}")
        resume = tmp_path / "last.ckpt" if most == steps[1] else None
        found = fit_and_finish(settings, tmp_path, resume)
        assert (found["step"], found["AP"]) == (step, best)
        assert checkpoint.read(tmp_path / "best.ckpt")["global_step"] == step
        for name in ("best", "last"):
            assert checkpoint.read(tmp_path / f"{name}.ckpt")["callbacks"]["RunCheckpoints"]["best"] == best
    assert not list(given)


def test_a_run_that_never_validates_still_has_a_best_checkpoint(root: Path, tmp_path: Path) -> None:
    settings = config(root, "trainer.limit_val_batches=0", "trainer.max_steps=1")
    fit(settings, tmp_path)
    assert checkpoint.read(tmp_path / "best.ckpt")["global_step"] == 1
