"""The statistics of batch norms that are scored and saved are those of the weights."""

import copy
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from mbvision import checkpoint
from mbvision.engine import norm_statistics
from mbvision.engine.norm_statistics import NormStatistics, estimate
from mbvision.network import Network
from tests.tiny_runs import build, config, differing, fit, keep_every_checkpoint, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=7, val=2)


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if "running_" in key}


def population_statistics(network: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """By hand: mean and variance of all values that reach a norm while batches are normalised by themselves."""
    network = copy.deepcopy(network).eval()
    seen: dict[str, list[Tensor]] = {}
    for name, norm in network.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train().register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0].movedim(1, 0).flatten(1))
            )
    with torch.no_grad():
        for images in batches:
            network(images)
    found = {}
    for name, parts in seen.items():
        values = torch.cat(parts, dim=1).double()
        found[f"{name}.running_mean"] = values.mean(dim=1).float()
        found[f"{name}.running_var"] = values.var(dim=1, correction=0).float()
    return found


def assert_those_of_the_weights(path: Path, batches: list[Tensor]) -> None:
    """What a checkpoint holds is what its weights make of the batches."""
    network = checkpoint.load(path)[0]
    torch.testing.assert_close(statistics(network), population_statistics(network, batches), rtol=1e-4, atol=1e-5)


def first_batches(settings: dict[str, object], count: int) -> list[Tensor]:
    return [batch.float_images() for batch in islice(build(settings)[1].train_dataloader(), count)]


def test_estimates_are_those_of_all_values_and_leave_everything_else_as_it_was() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    network = nn.Sequential(*layers)
    batches = [torch.rand(4, 3, 8, 8) * (1 + number) for number in range(3)]
    network(torch.rand(4, 3, 8, 8))
    state = torch.get_rng_state()
    estimate(network, batches)
    assert torch.equal(torch.get_rng_state(), state) and not any(part.training for part in network.modules())
    torch.testing.assert_close(statistics(network), population_statistics(network, batches))
    assert network[1].momentum == 0.1 and network[1].num_batches_tracked == 1 and not network[1]._forward_pre_hooks
    before = {key: value.clone() for key, value in network.state_dict().items()}
    estimate(network, batches)
    assert not differing(network.state_dict(), before)  # the same, whatever they were


def test_many_batches_give_what_torch_estimates() -> None:
    """torch takes the mean of the batches' unbiased variances; with many like batches that is nearly the same."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    batches = [torch.rand(8, 3, 16, 16) for _ in range(10)]
    expected = copy.deepcopy(network)
    update_bn(batches, expected)
    estimate(network, batches)
    torch.testing.assert_close(statistics(network), statistics(expected), rtol=0.002, atol=0.002)


def test_frozen_norms_and_maps_of_one_value_keep_their_statistics(root: Path) -> None:
    network = build(config(root, "freeze=backbone"))[0].network
    assert isinstance(network, Network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    estimate(network, [torch.rand(1, 3, 64, 64)])
    changed = set(differing(network.state_dict(), before))
    assert changed and all(key.startswith("heads.") and "running_" in key for key in changed)
    single = "heads.detection.extra.3"  # a map of 1x1 pixels: one image gives one value
    assert any(key.startswith(single) for key in before) and not any(key.startswith(single) for key in changed)


@pytest.mark.parametrize("average", ["ema_decay=0.9", "ema_decay=null"])
def test_what_is_scored_and_saved_has_the_statistics_of_its_weights(average: str, root: Path, tmp_path: Path) -> None:
    settings = config(root, average)
    batches = first_batches(settings, 3)  # the fourth is of one image
    fit(settings, tmp_path / "whole")
    for name in ("best.ckpt", "last.ckpt"):
        assert_those_of_the_weights(tmp_path / "whole" / name, batches)
    ends_unscored = config(root, average, "trainer.max_steps=3", "trainer.check_val_every_n_epoch=2")
    fit(ends_unscored, tmp_path / "ends")
    assert_those_of_the_weights(tmp_path / "ends" / "last.ckpt", batches)


def test_a_run_that_is_no_longer_young_keeps_its_running_averages(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def note(network: nn.Module, batches: Iterator[Tensor]) -> None:
        steps.append(len(list(batches)))
        network.eval()

    monkeypatch.setattr(norm_statistics, "estimate", note)
    monkeypatch.setattr(norm_statistics, "YOUNG", 0.05)  # 5 steps at the momentum of the backbone, 0.01
    fit(config(root), tmp_path)
    assert steps == [3]  # before the validation of the first epoch, 4 steps, not before that of the second


def test_a_run_without_an_average_resumes_exactly(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(root, "ema_decay=null", "checkpoint_every_n_steps=1")
    with monkeypatch.context() as patch:
        keep_every_checkpoint(patch, tmp_path)
        fit(settings, tmp_path / "whole")
    whole = checkpoint.read(tmp_path / "whole" / "last.ckpt")
    for step in (3, 4, 6):
        fit(settings, tmp_path / f"from_{step}", resume=tmp_path / f"step_{step}.ckpt")
        resumed = checkpoint.read(tmp_path / f"from_{step}" / "last.ckpt")
        assert not differing(resumed["state_dict"], whole["state_dict"])


def test_training_itself_does_not_notice(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are those of a run without estimates: published recipes end as they did."""
    fit(config(root), tmp_path / "with")
    monkeypatch.setattr(NormStatistics, "_estimate", lambda *_: None)
    fit(config(root), tmp_path / "without")
    found, expected = (checkpoint.read(tmp_path / name / "last.ckpt") for name in ("with", "without"))
    assert not differing(found["current_model_state"], expected["current_model_state"])
    weights = [key for key in expected["state_dict"] if "running_" not in key]
    assert not differing(found["state_dict"], expected["state_dict"], weights)
    assert differing(found["state_dict"], expected["state_dict"])
