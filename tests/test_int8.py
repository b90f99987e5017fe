"""Files in 8 bits: what hurts is found and stays in float, and the numbers are those of the file that was measured."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbvision import checkpoint
from mbvision.commands import export as command
from mbvision.commands import int8_receipt, run
from mbvision.deploy.between import inside
from mbvision.deploy.exported import Eager
from mbvision.deploy.fold import folded
from mbvision.deploy.formats import FORMATS, open_runtime
from mbvision.deploy.int8 import Quantized, export_int8
from mbvision.deploy.samples import sample_pictures
from mbvision.deploy.sensitivity import LayerNoise, quantisable, sensitivity, stay_float
from mbvision.errors import ConfigError
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_runs import write_grays

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

WIDE, READER = "backbone.blocks.1.expand.conv", "backbone.blocks.1.depthwise.conv"
"""A convolution, with ReLU behind it, and the depthwise one that reads it."""
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "executorch": ".pte"}
PACKAGES = {"onnx": "onnxruntime", "openvino": "nncf", "executorch": "executorch"}


def samples(size: tuple[int, int], _: dict[str, Any]) -> Sequence[torch.Tensor]:
    return sample_pictures(size, 1)


def accept(_: Quantized) -> None:
    """Any file will do."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("plain") / "a.ckpt", "task=lraspp")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the same outputs, in which one channel is a thousand times as wide as the others between two layers.

    The norm's weights scale the channel up before the ReLU, the depthwise weights scale it down again.
    """
    path = write_checkpoint(tmp_path_factory.mktemp("planted") / "a.ckpt", "task=lraspp")
    content = checkpoint.read(path)
    state, norm = content["state_dict"], "network." + WIDE.removesuffix("conv") + "norm"
    channel = liveliest(path)
    for key in (f"{norm}.weight", f"{norm}.bias"):
        state[key][channel] *= 1000
    state[f"network.{READER}.weight"][channel] /= 1000
    checkpoint.write(path, {key: value for key, value in content.items() if key != "sha256"})
    return path


def liveliest(path: Path) -> int:
    """The channel of `WIDE` that is not cut off by its ReLU, if any is."""
    network = folded(checkpoint.load(path)[0])
    found: list[int] = []
    layer = network.get_submodule(WIDE)
    layer.register_forward_hook(lambda _, __, output: found.append(int(output.amax(dim=(0, 2, 3)).argmax())))
    network(sample_pictures((64, 64), 1)[0])
    return found[0]


def table_of(path: Path) -> list[Any]:
    network, _ = checkpoint.load(path)
    return sensitivity(folded(network), samples((64, 64), {}))


def test_a_planted_outlier_is_found_first(plain: Path, planted: Path) -> None:
    ours, theirs = (folded(checkpoint.load(path)[0]) for path in (plain, planted))
    images = sample_pictures((64, 64), 1)[0]
    outputs = [network(images)["segmentation"].logits for network in (ours, theirs)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-3, atol=1e-4)
    before, after = table_of(plain), table_of(planted)
    assert {row.layer for row in after[:2]} == {WIDE, READER}
    assert {WIDE, READER} <= set(stay_float(after)) and not {WIDE, READER} & set(stay_float(before))
    assert after[2].worst > after[1].worst + 6  # and by far
    assert [row.worst for row in after] == sorted(row.worst for row in after)


def test_a_layer_that_does_nothing_does_no_harm(plain: Path) -> None:
    network = folded(checkpoint.load(plain)[0])
    layers = quantisable(network)
    last = "heads.segmentation.low_output"
    layers[last].weight.data.zero_()
    layers[last].bias.data.zero_()  # type: ignore[union-attr]  # it has one
    found = {row.layer: row for row in sensitivity(network, samples((64, 64), {}))}
    assert found[last].decibels == {"segmentation": float("inf")}
    assert len(found) == len(layers)


class Seen:
    """What is known of a file while it is judged: its outputs, and their squared error over the network's variance."""

    def __init__(self) -> None:
        self.images = sample_pictures((64, 64), 1)[0].numpy()
        self.outputs: list[dict[str, np.ndarray]] = []
        self.noise: list[float] = []

    def __call__(self, done: Quantized) -> None:
        assert done.exported.runtime is not None
        self.outputs.append(done.exported.runtime.run(self.images))
        expected = done.exported.eager.run(self.images)["logits"]
        self.noise.append(float(np.square(self.outputs[-1]["logits"] - expected).mean() / expected.var()))


def write_both(source: Path, output: Path, format: str) -> tuple[Seen, Sequence[str]]:
    """A file with nothing in float, then in its place one with what hurts in float; the names of these layers."""
    seen, kept = Seen(), list[str]()

    def judge(done: Quantized) -> None:
        seen(done)
        kept[:] = done.kept

    choices: tuple[list[str] | None, ...] = ([], None)
    for keep in choices:
        export_int8(
            source,
            output,
            format=format,
            calibration=samples,
            pictures=sample_pictures,
            judge=judge,
            keep_float=keep,
            masks="logits",
        )
    return seen, kept


@pytest.fixture(scope="module")
def onnx_file(planted: Path) -> tuple[Path, Seen, Sequence[str]]:
    output = planted.with_name("a.onnx")
    return output, *write_both(planted, output, "onnx")


def check(output: Path, seen: Seen, *, harmed: bool = True) -> None:
    assert seen.noise[1] < 0.1 and (seen.noise[1] < seen.noise[0] / 2 if harmed else seen.noise[0] < 1e-3)
    again = open_runtime(output).run(seen.images)
    assert all(np.array_equal(again[name], values) for name, values in seen.outputs[1].items())


def test_keeping_what_hurts_in_float_helps_and_the_file_is_the_one_that_was_measured(
    onnx_file: tuple[Path, Seen, Sequence[str]],
) -> None:
    check(*onnx_file[:2])


@pytest.mark.parametrize(("format", "harmed"), [("openvino", False), ("executorch", True)])
def test_the_same_holds_for_other_formats(format: str, harmed: bool, planted: Path, tmp_path: Path) -> None:
    """But nncf gives each channel of a depthwise input a range of its own, so that this outlier harms nothing."""
    pytest.importorskip(PACKAGES[format], reason=f"{PACKAGES[format]} is not installed")
    output = tmp_path / f"a{SUFFIXES[format]}"
    check(output, write_both(planted, output, format)[0], harmed=harmed)


def test_only_the_layers_that_are_not_kept_are_in_8_bits(
    planted: Path, onnx_file: tuple[Path, Seen, Sequence[str]]
) -> None:
    import onnx

    output, _, kept = onnx_file
    assert {WIDE, READER} <= set(kept)
    layers = quantisable(checkpoint.load(planted)[0])
    constants = {one.name: one for one in onnx.load(output).graph.initializer}
    convolutions = [node for node in onnx.load(output).graph.node if node.op_type == "Conv"]
    in_float = [node for node in convolutions if node.input[1] in constants]
    assert len(convolutions) == len(layers) and len(in_float) == len(kept)
    shapes = sorted(tuple(constants[node.input[1]].dims) for node in in_float)
    assert shapes == sorted(tuple(layers[name].weight.shape) for name in kept)
    table = json.loads(output.with_name(f"{output.name}.sensitivity.json").read_text())
    assert {row["layer"] for row in table if row["float"]} == set(kept) and len(table) == len(layers)


def test_a_file_that_loses_too_much_is_not_left_behind(
    planted: Path,
    onnx_file: tuple[Path, Seen, Sequence[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.onnx").write_text("what was there")

    def scores(runtime: object, *_: object) -> dict[str, Any]:
        drop = 0.0 if isinstance(runtime, Eager) else 0.02
        return {"mIoU": 0.6 - drop, "pixel_accuracy": 0.5, "per_class": {"car": {"IoU": 0.6 - drop}}}

    def copied(_: object, __: object, path: Path, **___: object) -> None:
        shutil.copy(onnx_file[0], path)

    there = FORMATS["onnx"]._replace(write=copied, quantize=copied)
    monkeypatch.setitem(FORMATS, "onnx", there)
    monkeypatch.setattr(int8_receipt, "scored", scores)
    keys = [f"checkpoint={planted}", f"output={tmp_path}/a.onnx", "quantize=int8", "data=scenes", "masks=logits"]
    keys += [f"calibration={write_grays(tmp_path / 'seen', 3)}"]
    assert run(command.main, keys) == 2
    told = capsys.readouterr()
    assert "mIoU fell by 2.00 points, max_drop=1 allows less" in told.err and "keep_float=[" in told.err
    assert "  car IoU                   0.6000      0.5800     -0.0200" in told.out
    assert (tmp_path / "a.onnx").read_text() == "what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "seen"}
    assert run(command.main, [*keys, "max_drop=2.5"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "a.onnx.sensitivity.json", "seen"}


def test_all_in_float_is_refused(plain: Path, tmp_path: Path) -> None:
    layers = list(quantisable(checkpoint.load(plain)[0]))
    with pytest.raises(ConfigError, match="no layer is left to be in 8 bits"):
        export_int8(
            plain,
            tmp_path / "a.onnx",
            format="onnx",
            calibration=samples,
            pictures=sample_pictures,
            judge=accept,
            keep_float=layers,
        )


def test_what_stays_in_float_is_under_20_decibels_or_far_from_the_rest() -> None:
    def kept(*values: float) -> list[str]:
        return stay_float([LayerNoise(str(value), {"a": value + 1, "b": value}, 1) for value in values])

    others = [float(value) for value in range(45, 65)]  # with the two before them, a tenth of 22 is 2
    assert kept(19.0, 21.0, *others[:-2]) == ["19.0", "21.0"]  # under 20, and the next one apart
    assert kept(31.0, 32.0, *others) == ["31.0", "32.0"]
    assert kept(31.0, 32.0, 33.0, *others) == []  # more than a tenth
    assert kept(36.0, 37.0, *others) == [] and kept(50.0) == []


def test_what_lies_between_layers_is_neither_before_nor_behind_them() -> None:
    edges = [("in", "a"), ("a", "relu"), ("relu", "b"), ("relu", "pool"), ("pool", "b"), ("b", "softmax"), ("x", "b")]
    assert inside(["a", "b"], edges) == {"a", "relu", "pool", "b"}


def test_formats_with_8_bits_run_here() -> None:
    assert all(one.runtime for one in FORMATS.values() if one.quantize)
