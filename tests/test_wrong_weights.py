"""Each kind of wrong weight file is refused in one line that names the file, the first difference and the remedy."""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from mbvision import checkpoint
from mbvision.errors import CheckpointError, MBVisionError
from mbvision.weights import load_pretrained, load_trunk_only, to_library
from tests.library_builds import blank, our_config, our_network, their_model

NAME = "mobilenet_v3_small"
NAMES = {"classification": [str(i) for i in range(1000)]}
STEM = r"stem.conv.weight is \[16, 3, 3, 3\] in the network and \[32, 3, 3, 3\] in the weights"
OUTPUT = r"heads.classification.output.weight is \[1000, 1024\] in the network and \[8, 1024\] in the weights"


class Callback:
    """What a hostile file holds: a function that is called when it is read."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("called",)


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    return to_library(our_network(NAME), their_model("torchvision", NAME))


def built(make: Callable[[], Any]) -> dict[str, Tensor]:
    with blank():
        return dict(make().state_dict())


def without(state: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name != key}


def ours(classes: int) -> dict[str, Any]:
    """A training checkpoint of ours for so many classes."""
    state = {f"network.{key}": value for key, value in our_network(NAME, classes).state_dict().items()}
    about = checkpoint.description(
        dict.fromkeys(checkpoint.REBUILD_KEYS) | our_config(NAME),
        {"classification": [str(i) for i in range(classes)]},
    )
    return {"state_dict": state, "mbvision": about, "sha256": checkpoint.weights_digest(state)}


def load(path: Path, **arguments: Any) -> str:
    """The message, which is one line, names the file and leaves the network alone."""
    network = our_network(NAME)
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(network, str(path), architecture=NAME, class_names=NAMES, **arguments)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and isinstance(caught.value, MBVisionError)
    assert not any(parameter.any() for parameter in network.parameters() if parameter.dim() > 1)
    print(message.replace(str(path), path.name))
    return message


WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "another network, torchvision": (lambda _: built(torchvision.models.mobilenet_v2), STEM),
    "another network, timm": (lambda _: built(lambda: timm.create_model("mobilenetv2_100")), STEM),
    "another size": (
        lambda _: built(torchvision.models.mobilenet_v3_large),
        r"features.1.block.1.0.weight is \[16, 16, 1, 1\] in the weights and is no layer of this backbone, which has"
        r" blocks.0.squeeze.reduce.weight \[8, 16, 1, 1\]",
    ),
    "no MobileNet": (
        lambda _: built(torchvision.models.resnet18),
        r"conv1.weight \[64, 3, 7, 7\] is a name of no known MobileNet",
    ),
    "other classes": (
        lambda s: s | {"classifier.3.weight": torch.zeros(8, 1024), "classifier.3.bias": torch.zeros(8)},
        OUTPUT + r".*reset_head=true",
    ),
    "missing": (
        lambda s: without(s, "features.4.block.1.0.weight"),
        r"blocks.3.depthwise.conv.weight is \[96, 1, 5, 5\] in the network and missing from the weights",
    ),
    "missing in the head": (
        lambda s: without(s, "classifier.0.bias"),
        r"heads.classification.hidden.bias is \[1024\] in the network and missing",
    ),
    "extra": (lambda s: s | {"fc.weight": torch.zeros(3, 4)}, r"fc.weight is \[3, 4\] in the weights and is no layer"),
    "extra in the head": (
        lambda s: s | {"classifier.3.scale": torch.zeros(3)},
        r"heads.classification.output.scale is \[3\] in the weights and not in the network",
    ),
    "another shape": (
        lambda s: s | {"features.2.block.0.0.weight": torch.zeros(64, 16, 1, 1)},
        r"blocks.1.expand.conv.weight is \[72, 16, 1, 1\] in the network and \[64, 16, 1, 1\] in the weights"
        r" \(features.2.block.0.0.weight there\)",
    ),
    "whole numbers": (
        lambda s: s | {"features.0.0.weight": torch.zeros(16, 3, 3, 3, dtype=torch.int8)},
        r"stem.conv.weight is torch.int8 in the weights",
    ),
    "not finite": (
        lambda s: s | {"features.0.0.weight": torch.full((16, 3, 3, 3), torch.nan)},
        r"features.0.0.weight holds values that are not finite",
    ),
    "Lightning's checkpoint with a loss of its own": (
        lambda s: {
            "state_dict": {f"model.{k}": v for k, v in s.items()} | {"loss.weight": torch.ones(3)},
            "pytorch-lightning_version": "2.6",
            "epoch": 3,
        },
        r"model.features.0.0.weight \[16, 3, 3, 3\] is a name of no known MobileNet.*take 'model.' off the names",
    ),
    "a whole model": (lambda _: torch.nn.Linear(2, 2), r"holds the Python object torch.nn.modules.linear.Linear"),
    "a callable": (lambda _: {"weight": Callback()}, r"holds the Python object print,"),
    "no tensors": (lambda _: {"epoch": 3}, r"holds no tensors"),
    "a list": (lambda _: [torch.zeros(3)], r"holds a list, not a dictionary"),
    "a checkpoint of ours with other classes": (
        lambda _: ours(8),
        r"knows 8 classes, the data set has 1000.*first nothing there, 8 here.*reset_head=true",
    ),
    "a damaged checkpoint of ours": (lambda _: ours(8) | {"sha256": "0"}, r"do not match their SHA-256"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_named_with_what_is_wrong(kind: str, small: dict[str, Tensor], tmp_path: Path) -> None:
    content, message = WRONG[kind]
    torch.save(content(small), tmp_path / "wrong.pth")
    assert re.search(message, load(tmp_path / "wrong.pth"))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text", b"epoch loss\n1 0.5\n"),
        ("empty", b""),
        ("a bare pickle", pickle.dumps({"weight": Callback()})),
        ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    ],
)
def test_what_is_no_checkpoint_is_named(kind: str, content: bytes, tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "wrong.pth").write_bytes(content)
    assert "is not a checkpoint: torch.save did not write it, or it was cut off" in load(tmp_path / "wrong.pth")
    assert "called" not in capfd.readouterr().out.splitlines()


def test_a_file_that_was_cut_off_is_named(small: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(small, tmp_path / "whole.pth")
    save_file(small, tmp_path / "whole.safetensors")
    for suffix, message in ((".pth", "it was cut off"), (".safetensors", "is not a whole safetensors file")):
        whole = (tmp_path / f"whole{suffix}").read_bytes()
        for share in (0.001, 0.5, 0.99):
            (tmp_path / f"cut{suffix}").write_bytes(whole[: int(len(whole) * share)])
            assert message in load(tmp_path / f"cut{suffix}")
    assert "there is no such checkpoint file" in load(tmp_path / "nowhere.pth")


def test_classes_of_a_safetensors_file_of_ours_are_compared_too(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "ours.ckpt", ours(8))
    checkpoint.export_safetensors(tmp_path / "ours.ckpt", tmp_path / "ours.safetensors")
    assert "knows 8 classes, the data set has 1000" in load(tmp_path / "ours.safetensors")


def test_reset_head_starts_the_classes_anew_and_says_so(
    small: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {key: torch.ones_like(tensor) for key, tensor in small.items()}
    state |= {"classifier.3.weight": torch.ones(8, 1024), "classifier.3.bias": torch.ones(8)}
    checkpoint.write(tmp_path / "other.pth", state)
    network, names = our_network(NAME), {"classification": [str(i) for i in range(1000)]}
    caplog.set_level("INFO")
    load_pretrained(network, f"{tmp_path}/other.pth", architecture=NAME, class_names=names, reset_head=True)
    assert "reset_head: what tells the classes of classification apart starts anew (2 tensors)" in caplog.text
    weights = network.state_dict()
    assert weights["heads.classification.hidden.weight"].all() and weights["backbone.stem.conv.weight"].all()
    assert not weights["heads.classification.output.weight"].any()


@pytest.mark.parametrize("whole", [True, False])
def test_timms_weights_want_the_settings_they_were_trained_with(whole: bool, tmp_path: Path) -> None:
    name = "mobilenetv3_small_100"
    state = to_library(our_network(name), their_model("timm", name))
    checkpoint.write(tmp_path / "timm.pth", state)
    network = our_network(NAME)  # torchvision's: 1e-3 and symmetric, which is neither

    def start(published_weights: bool) -> None:
        known: dict[str, Any] = {"architecture": NAME, "published_weights": published_weights}
        if whole:
            load_pretrained(network, f"{tmp_path}/timm.pth", class_names={}, **known)
        else:
            load_trunk_only(network, f"{tmp_path}/timm.pth", **known)

    with pytest.raises(CheckpointError, match=r"set backbone\.norm_eps=1e-05") as caught:
        start(True)
    assert "backbone.norm_eps=0.001 backbone.padding=same for timm's tf_ weights (variant=tensorflow)" in str(
        caught.value
    )
    network.mean.fill_(0.25)
    start(False)
    assert network.mean.eq(0.25).all()  # they are somebody's own


@pytest.mark.parametrize(
    ("name", "mean"),
    [("mobilenetv3_small_100", 0.485), ("tf_mobilenetv3_small_100", 0.5), ("mobilenetv1_100", 0.5)],
)
def test_normalisation_comes_with_timms_weights(name: str, mean: float, tmp_path: Path) -> None:
    network = our_network(name)
    checkpoint.write(tmp_path / "timm.pth", to_library(network, their_model("timm", name)))
    network.mean.fill_(0.25)
    architecture = "mobilenet_v1" if "v1" in name else NAME
    load_trunk_only(network, f"{tmp_path}/timm.pth", architecture=architecture)
    assert network.mean.flatten()[0].item() == pytest.approx(mean)


def test_a_normalisation_that_timm_publishes_too_is_kept(tmp_path: Path) -> None:
    network = our_network("mobilenetv3_large_100")
    checkpoint.write(tmp_path / "timm.pth", to_library(network, their_model("timm", "mobilenetv3_large_100")))
    for mean in (0.0, 0.5):  # miil's and ra4's
        network.mean.fill_(mean)
        network.std.fill_(mean or 1.0)
        load_trunk_only(network, f"{tmp_path}/timm.pth", architecture="mobilenet_v3_large")
        assert network.mean.eq(mean).all()


def test_a_wrapped_model_loses_its_prefix(small: dict[str, Tensor], tmp_path: Path) -> None:
    state = {f"module._orig_mod.{key}": tensor + 1 for key, tensor in small.items()}
    checkpoint.write(tmp_path / "wrapped.pth", {"state_dict": state})
    network = our_network(NAME)
    load_pretrained(network, f"{tmp_path}/wrapped.pth", architecture=NAME, class_names=NAMES)
    assert network.state_dict()["backbone.stem.conv.weight"].eq(1).all()


def test_a_timm_network_of_another_depth_is_refused(small: dict[str, Tensor], tmp_path: Path) -> None:
    state = {"conv_stem.weight": torch.zeros(16, 3, 3, 3), "blocks.0.0.conv_dw.weight": torch.zeros(16, 1, 3, 3)}
    torch.save(state, tmp_path / "tiny.pth")
    assert "a timm network with 1 depthwise blocks is none of V1 (13)" in load(tmp_path / "tiny.pth")


def test_timms_v1_with_a_hidden_layer_is_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "h.pth", built(lambda: timm.create_model("mobilenetv1_100h")))
    message = r"conv_head.weight is \[1024, 1024, 1, 1\] in the weights and is no layer of this backbone"
    with pytest.raises(CheckpointError, match=message):
        load_trunk_only(our_network("mobilenetv1_100"), f"{tmp_path}/h.pth", architecture="mobilenet_v1")


@pytest.mark.parametrize(("start", "key"), [(load_pretrained, "pretrained"), (load_trunk_only, "backbone.weights")])
def test_a_failed_download_names_the_key_that_asked_for_it(
    start: Callable[..., None], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str, **_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("mbvision.weights.load.load_state_dict_from_url", fail)
    names = {"class_names": NAMES} if start is load_pretrained else {}
    with pytest.raises(CheckpointError, match=rf"no route to host\); fetch it by hand and use {key}=PATH"):
        start(our_network(NAME), "torchvision:IMAGENET1K_V1", architecture=NAME, **names)
