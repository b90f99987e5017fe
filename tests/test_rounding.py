"""Training through 8 bits: plain floats learn, and what they learn is for their rounded selves."""

from pathlib import Path

import pytest
import torch

from mbvision import checkpoint
from mbvision.commands import run, train
from mbvision.deploy.fold import folded
from mbvision.engine.rounding import Rounding
from mbvision.network import Network
from mbvision.quantization import rounded_weights
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_runs import arguments, write_coco


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("rounding") / "a.ckpt", "task=lraspp")


@pytest.fixture
def network(path: Path) -> Network:
    return checkpoint.load(path)[0]


def test_weights_stay_floats_and_norms_stay_as_they_are(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rounding = Rounding(network.train())
    rounding(torch.rand(2, 3, 64, 64))["segmentation"].logits.square().sum().backward()
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(own.grad is not None and own.grad.abs().sum() > 0 for own in network.heads.parameters())
    for kind in (torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm):
        norms = [module for module in network.train().modules() if isinstance(module, kind)]
        assert norms and not any(norm.training for norm in norms)
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place, as Lightning does before it trains


def test_rounding_before_the_norm_is_rounding_after_folding_it(network: Network) -> None:
    images = torch.rand(2, 3, 64, 64)
    flat = folded(network)
    for layer in flat.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = rounded_weights(layer.weight.data)
    rounded_first = network.eval()
    for layer in rounded_first.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = rounded_weights(layer.weight.data)
    torch.testing.assert_close(
        rounded_first(images)["segmentation"].logits, flat(images)["segmentation"].logits, rtol=1e-3, atol=1e-4
    )


def test_the_outputs_are_near_the_floats_but_not_the_same(network: Network) -> None:
    images = torch.rand(2, 3, 64, 64)
    plain = network.eval()(images)["segmentation"].logits
    found = Rounding(network)(images)["segmentation"].logits
    noise = (found - plain).square().mean() / plain.var()
    assert 1e-8 < noise < 0.1


def test_a_run_trains_through_it_and_leaves_a_plain_checkpoint(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data")
    start = write_checkpoint(tmp_path / "a.ckpt", "task=ssdlite")
    keys = [*arguments(root, "task=ssdlite"), f"run_dir={tmp_path}/run", "quantize=int8", "trainer.max_steps=2"]
    assert run(train.main, [*keys, f"pretrained={start}", "reset_head=true"]) == 0
    network, _ = checkpoint.load(tmp_path / "run/best.ckpt")
    ours = {name: tensor.shape for name, tensor in network.backbone.state_dict().items()}
    theirs = {name: tensor.shape for name, tensor in checkpoint.load(start)[0].backbone.state_dict().items()}
    assert ours == theirs


def test_it_starts_from_what_has_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(train.main, [f"data.root={tmp_path}/scenes", f"run_dir={tmp_path}/run", "quantize=int8"]) == 2
    assert "say pretrained=CHECKPOINT" in capsys.readouterr().err
