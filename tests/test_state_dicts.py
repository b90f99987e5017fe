"""State dicts as other trainers leave them: which tensors are read, under which names, and what is logged."""

import argparse
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mbvision import checkpoint
from mbvision.backbones.pretrained import MAX_NAMED, load_strict
from mbvision.checkpoint import read_any
from mbvision.errors import CheckpointError

torch.manual_seed(0)
MODEL = nn.Sequential()
MODEL.add_module("features", nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))))
MODEL.add_module("classifier", nn.Linear(4, 2))
STATE = dict(MODEL.state_dict())


class Wrapper(nn.Module):
    """A network below an attribute of another module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, MODEL)


WRAPPED: dict[str, Any] = {
    "DataParallel": nn.DataParallel(MODEL),
    "compiled": torch.compile(MODEL),
    "compiled, then parallel": nn.DataParallel(torch.compile(MODEL)),
    "averaged": AveragedModel(MODEL),
    **{name: Wrapper(name) for name in ("model", "net", "network", "encoder", "backbone")},
}
KEYS = ("state_dict", "model", "model_state_dict", "network", "net", "weights")


def _read(folder: Path, content: Any) -> dict[str, torch.Tensor]:
    torch.save(content, folder / "a.pth")
    tensors, about = read_any(folder / "a.pth")
    assert about is None
    return tensors


def _assert_same(tensors: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_prefixes_of_wrappers_are_taken_off_and_logged(
    tmp_path: Path, wrapper: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = WRAPPED[wrapper].state_dict()
    with caplog.at_level(logging.INFO):
        if suffix == "pth":
            tensors = _read(tmp_path, state)
        else:
            save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "a.safetensors")
            tensors = read_any(tmp_path / "a.safetensors")[0]
    _assert_same(tensors)
    assert "is taken off its names" in caplog.text
    assert ("n_averaged" in caplog.text) == (wrapper == "averaged")


@pytest.mark.parametrize("key", KEYS)
def test_weights_are_found_beside_the_state_of_training(
    tmp_path: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    training = {"epoch": 3, "optimizer": {"state": {}, "param_groups": []}, "args": argparse.Namespace(lr=0.1)}
    with caplog.at_level(logging.INFO):
        _assert_same(_read(tmp_path, {key: STATE, **training}))
    assert not caplog.records


@pytest.mark.parametrize(("key", "averaged"), [("model", "model_ema"), ("state_dict", "state_dict_ema")])
def test_averaged_weights_beside_the_others_are_named(
    tmp_path: Path, key: str, averaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The layouts of torchvision's references and of timm."""
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    with caplog.at_level(logging.INFO):
        _assert_same(_read(tmp_path, {averaged: other, key: STATE}))
    assert f"weights under {key} are read, not those under {averaged}" in caplog.text


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    state = {f"net.{name}": tensor for name, tensor in STATE.items()} | {"loss.weight": torch.ones(2)}
    assert _read(tmp_path, state).keys() == state.keys()


def test_a_file_without_weights_says_where_it_has_tensors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pth holds no tensors: .*it has some under model_ema"):
        _read(tmp_path, {"model_ema": STATE, "epoch": 1})


def test_a_torchscript_file_is_named(tmp_path: Path) -> None:
    class Code(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.warns(FutureWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(Code()), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt is a TorchScript file: save the network's state_dict"):
        read_any(tmp_path / "a.pt")


def test_variances_below_zero_are_an_error() -> None:
    state = STATE | {"features.0.1.running_var": torch.tensor([1.0, 1.0, -1e-3, 1.0])}
    with pytest.raises(CheckpointError, match=r"a\.pth: features\.0\.1\.running_var holds variances below 0"):
        checkpoint.load_weights(MODEL, state, Path("a.pth"))


def test_every_missing_tensor_is_named() -> None:
    kept = {name: tensor for name, tensor in STATE.items() if not name.startswith("features")}
    with pytest.raises(CheckpointError) as error:
        load_strict(MODEL, kept)
    assert all(name in str(error.value) for name in STATE.keys() - kept.keys() if "num_batches" not in name)
    many = nn.ModuleList(nn.Linear(1, 1) for _ in range(MAX_NAMED))
    with pytest.raises(CheckpointError, match=r"as are 39 more: .*, \.\.\.\)"):
        load_strict(many, {})


def test_counters_of_batch_norm_may_be_missing() -> None:
    target = nn.Sequential(nn.BatchNorm2d(4))
    load_strict(target, {name: torch.full((4,), 2.0) for name in target.state_dict() if "num_batches" not in name})
    assert (target.state_dict()["0.running_var"] == 2).all()
    assert target.state_dict()["0.num_batches_tracked"] == 0
