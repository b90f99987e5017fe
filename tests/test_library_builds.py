"""Every torchvision and timm build that is ours too: the same names and shapes, the same outputs, there and back."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor

from mbvision import checkpoint
from mbvision.backbones.pretrained import load_strict
from mbvision.commands.compose import compose_config
from mbvision.weights import from_timm, from_torchvision, load_pretrained, to_library
from tests.library_builds import (
    BUILDS,
    CLASSES,
    OVERRIDES,
    architecture_of,
    blank,
    digest,
    filled,
    hashed,
    our_config,
    our_network,
    outputs,
    their_model,
)
from tests.test_ssdlite import randomise

KEYS = list(BUILDS)
IDS = [f"{library}-{name}" for library, name in KEYS]
TOLERANCE = 1e-6
"""Of the mean magnitude of the outputs, by the rule in the data file."""


def test_there_are_nine_torchvision_and_eighteen_timm_builds() -> None:
    assert [sum(library == one for library, _ in KEYS) for one in ("torchvision", "timm")] == [9, 18]


@pytest.mark.parametrize(("library", "name"), KEYS, ids=IDS)
def test_names_shapes_and_outputs_are_the_fingerprints(library: str, name: str) -> None:
    facts, network = BUILDS[library, name], our_network(name).double()
    state = to_library(network, their_model(library, name))
    assert digest(state) == facts["state_dict_sha256"] and len(state) == facts["state_dict_tensors"]
    assert sum(parameter.numel() for parameter in network.parameters()) == facts["params"]
    read = from_torchvision if library == "torchvision" else from_timm
    load_strict(network, read(filled(state), network))
    height, width = facts["fingerprint_size"]
    found = outputs(network, hashed(3 * height * width, 7).reshape(1, 3, height, width))
    expected = facts["output"] if "" not in found else {"": facts["output"]}
    assert expected.keys() == found.keys()
    for key, one in expected.items():
        flat, tolerance = found[key].flatten(), TOLERANCE * one["abs_mean"]
        assert flat.numel() == one["numel"]
        torch.testing.assert_close(flat[:6].tolist(), one["first"], atol=tolerance, rtol=0)
        assert abs(flat.mean().item() - one["mean"]) < tolerance
        assert abs(flat.abs().mean().item() - one["abs_mean"]) < tolerance


def theirs(library: str, name: str) -> Any:
    """The installed library's model with random weights and statistics."""
    arguments = BUILDS[library, name].get("arguments", {})
    plain = name.partition("_x")[0].removesuffix("_aux")
    with blank():
        model = timm.create_model(name) if library == "timm" else torchvision.models.get_model(plain, **arguments)
    randomise(model.eval())
    return model


def their_outputs(model: Any, images: Tensor) -> dict[str, Tensor]:
    if hasattr(model, "anchor_generator"):
        raw: dict[str, Tensor] = model.head(list(model.backbone(images).values()))
        return raw
    out = model(images)
    return {"": out} if isinstance(out, Tensor) else out


@pytest.mark.parametrize(("library", "name"), KEYS, ids=IDS)
@torch.no_grad()
def test_a_file_of_theirs_gives_their_outputs_and_comes_back_bit_by_bit(
    library: str, name: str, tmp_path: Path
) -> None:
    model, network = theirs(library, name), our_network(name)
    checkpoint.write(tmp_path / "theirs.pth", model.state_dict())
    names = {head: [str(i) for i in range(CLASSES[head])] for head in network.heads}
    load_pretrained(network, f"{tmp_path}/theirs.pth", architecture=architecture_of(name), class_names=names)
    for size in ((97, 130), (160, 64)):
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        found, expected = outputs(network, images), their_outputs(model, images)
        for key, one in found.items():
            assert expected[key].std() > 0.01
            scale = expected[key].abs().max().item()
            torch.testing.assert_close(one, expected[key], atol=1e-5 * max(scale, 1.0), rtol=0)
    written, original = to_library(network, their_model(library, name)), model.state_dict()
    assert list(written) == list(original)
    assert all(torch.equal(written[key], original[key]) for key in original)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "mobilenetv3_small_050", "tf_mobilenetv3_small_075"])
def test_the_command_line_gives_the_same_network_settings(name: str) -> None:
    config, built = compose_config("train", OVERRIDES[name]), our_config(name)
    assert config["normalize"] == built["normalize"]
    assert config["backbone"] == built["backbone"]
    assert "classification" in built["heads"] or config["heads"] == built["heads"]
