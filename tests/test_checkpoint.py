"""A checkpoint is whole or not there, rebuilds its network from itself alone, and damage is told in one line."""

import json
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands.compose import compose_config
from mbvision.errors import CheckpointError

NAMES = {"detection": ["bright", "dark"]}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return compose_config("train", ["data=coco", "backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=64"])


@pytest.fixture(scope="module")
def content(settings: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    network = build_network(settings, {"detection": 2})
    weights = {f"network.{key}": value for key, value in network.state_dict().items()}
    return {
        "state_dict": weights,
        "mbvision": checkpoint.description(settings, NAMES),
        "sha256": checkpoint.weights_digest(weights),
    }


@pytest.fixture
def file(content: dict[str, Any], tmp_path: Path) -> Path:
    checkpoint.write(tmp_path / "last.ckpt", content)
    return tmp_path / "last.ckpt"


def test_a_checkpoint_rebuilds_its_network_without_any_configuration(content: dict[str, Any], file: Path) -> None:
    network, tasks = checkpoint.load(file)
    assert set(tasks) == {"detection"}
    for key, value in network.state_dict().items():
        assert torch.equal(value, content["state_dict"][f"network.{key}"])
    images = torch.rand(1, 3, 64, 64)
    assert network.eval()(images)["detection"].logits.shape[-1] == 3
    assert torch.load(file, weights_only=True)["mbvision"]["class_names"] == NAMES


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_other(content: dict[str, Any], file: Path) -> None:
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"last.ckpt cannot be written: File too large"):
            checkpoint.write(file, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_a_write_that_is_interrupted_leaves_the_old_file_and_no_other(
    content: dict[str, Any], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def interrupt(descriptor: int) -> None:
        assert len(list(file.parent.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(file, {**content, "more": 1})
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_is_told_in_one_line(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.write(tmp_path / "file" / "last.ckpt", content)


def test_a_copy_is_the_same_file(file: Path) -> None:
    checkpoint.copy(file, file.with_name("best.ckpt"))
    assert file.with_name("best.ckpt").read_bytes() == file.read_bytes()
    assert len(list(file.parent.iterdir())) == 2


def test_every_cut_and_every_flipped_weight_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            checkpoint.read(file)
    for place in (len(whole) // 3, len(whole) // 2, 2 * len(whole) // 3):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            checkpoint.read(file)


def test_weights_that_do_not_match_their_digest_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    other = {key: value + 1 for key, value in content["state_dict"].items()}
    checkpoint.write(tmp_path / "a.ckpt", {**content, "state_dict": other})
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.read(tmp_path / "a.ckpt")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    (tmp_path / "old.ckpt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.ckpt", "old.ckpt"):
        with pytest.raises(CheckpointError, match=name) as caught:
            checkpoint.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_what_is_no_checkpoint_of_ours_is_told_so(content: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "missing.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    with pytest.raises(CheckpointError, match="holds a list"):
        checkpoint.load(tmp_path / "list.ckpt")
    torch.save(content["state_dict"], tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match=r"pretrained= or backbone\.weights="):
        checkpoint.load(tmp_path / "plain.ckpt")


@pytest.mark.parametrize("damage", ["nan", "shape", "missing"])
def test_weights_that_do_not_fit_or_are_not_finite_are_named(
    content: dict[str, Any], tmp_path: Path, damage: str
) -> None:
    weights = dict(content["state_dict"])
    key = next(key for key in weights if key.endswith("conv.weight"))
    if damage == "nan":
        weights[key] = torch.full_like(weights[key], torch.nan)
    elif damage == "shape":
        weights[key] = weights[key][:1]
    else:
        del weights[key]
    checkpoint.write(tmp_path / "a.ckpt", {"state_dict": weights, "mbvision": content["mbvision"]})
    with pytest.raises(CheckpointError, match=key.removeprefix("network.")):
        checkpoint.load(tmp_path / "a.ckpt")


def test_a_description_names_no_code_to_run(content: dict[str, Any], tmp_path: Path) -> None:
    about = json.loads(json.dumps(content["mbvision"]))
    about["config"]["backbone"]["_target_"] = "os.system"
    checkpoint.write(tmp_path / "a.ckpt", {**content, "mbvision": about})
    with pytest.raises(Exception, match="not among the components"):
        checkpoint.load(tmp_path / "a.ckpt")


def test_safetensors_hold_the_weights_and_the_description(content: dict[str, Any], file: Path) -> None:
    target = file.with_suffix(".safetensors")
    checkpoint.export_safetensors(file, target)
    with safe_open(target, framework="pt") as weights:
        assert json.loads(weights.metadata()["mbvision"])["class_names"] == NAMES
        for key in weights.keys():  # noqa: SIM118 (no mapping)
            assert torch.equal(weights.get_tensor(key), content["state_dict"][f"network.{key}"])
