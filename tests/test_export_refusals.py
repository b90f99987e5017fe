"""What ``export`` does not write, and what it does not write over."""

import re
import resource
from importlib.util import find_spec
from pathlib import Path

import pytest

from mbvision import checkpoint
from mbvision.commands import export as command
from mbvision.commands import run
from mbvision.deploy import formats
from mbvision.deploy.export import export
from mbvision.deploy.samples import sample_pictures
from mbvision.errors import ConfigError
from tests.tiny_checkpoints import write_checkpoint

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("joint") / "a.ckpt", "task=[ssdlite,lraspp]")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["format=onnx", "output=a.xml"], "format=onnx writes .onnx files"),
        (["format=keras", "output=a"], "format=keras: choose onnx"),
        (
            ["output=a.onxx"],
            "a.onxx: give format=, or a file that ends in .onnx, .pt2, .xml, .pte, .mlpackage, .tflite",
        ),
        (["output=a.onnx", "keep_float=[foo]"], "keep_float= does nothing here: goes with quantize=int8"),
        (["output=a.onnx", "split=val"], "split= does nothing here: goes with data="),
        (["output=a.safetensors", "nms=true"], "nms= does nothing here: format=safetensors writes the weights alone"),
        (["output=a.mlpackage", "data=scenes"], "data= does nothing here: format=coreml runs on macOS alone"),
        (["output=a.tflite"], "format=litert: its converter needs torch below 2.15, so an environment of its own: pip"),
        (["output=a.onnx", "dynamic=[depth]"], "dynamic=['depth']: format=onnx has dynamic axes for batch, height"),
        (["output=a.onnx", "masks=colours"], "masks='colours': choose labels or logits"),
        (["output=a.onnx", "batch=0"], "batch=0"),
        (["output=a.onnx", "input_size=3"], "input_size=3"),
        (["output=a.onnx", "nms=maybe"], "nms=maybe: give true or false"),
    ],
)
def test_a_users_mistake_is_named(
    keys: list[str], message: str, joint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"output={tmp_path}/{key.removeprefix('output=')}" if key.startswith("output=") else key for key in keys]
    assert run(command.main, [f"checkpoint={joint}", *keys]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.onnx", "a.safetensors", "a.mlpackage"])
def test_a_folder_in_the_way_stays(name: str, joint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "a.mlpackage":
        pytest.importorskip("coremltools", reason="coremltools is not installed")
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    assert run(command.main, [f"checkpoint={joint}", f"output={tmp_path / name}"]) == 2
    assert re.search(f"{name} is a folder|{name}: Is a directory", capsys.readouterr().err)
    assert [path.name for path in tmp_path.rglob("*")] == [name, "precious"]


def test_the_checkpoint_itself_is_not_written_over(
    joint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = joint.read_bytes()
    for name in ("a.ckpt", "linked.safetensors"):
        if not joint.with_name(name).exists():
            joint.with_name(name).symlink_to(joint)
        assert run(command.main, [f"checkpoint={joint}", "format=safetensors", f"output={joint.with_name(name)}"]) == 2
        assert "is the checkpoint itself" in capsys.readouterr().err
    joint.with_name("linked.safetensors").unlink()
    assert joint.read_bytes() == before


@pytest.mark.parametrize("name", ["a.onnx", "a.safetensors"])
def test_a_place_that_cannot_be_written_is_named(name: str, joint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command.main, [f"checkpoint={joint}", f"output=/proc/{name}"]) == 2
    assert f"error: /proc/{name}: No such file or directory" in capsys.readouterr().err


def test_a_file_of_every_format_is_known_as_no_checkpoint() -> None:
    assert {one.suffix for one in formats.FORMATS.values()} | {".tflite"} == set(checkpoint.EXPORTED)


def test_a_missing_package_is_named_with_its_extra(
    joint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbvision.deploy.runtime.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'format=onnx needs onnxscript.*pip install "mbvision\[onnx\]"'):
        export(joint, tmp_path / "a.onnx", pictures=sample_pictures)


def test_core_ml_without_its_package_names_the_extra(joint: Path, tmp_path: Path) -> None:
    if find_spec("coremltools"):
        pytest.skip("coremltools is installed")
    with pytest.raises(ConfigError, match=r'format=coreml needs coremltools.*pip install "mbvision\[coreml\]"'):
        export(joint, tmp_path / "a.mlpackage", format="coreml", pictures=sample_pictures)


@pytest.mark.parametrize("name", ["a.pt2", "a.onnx"])
def test_a_full_disk_names_the_output_and_leaves_nothing(
    name: str, joint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files refuses bytes as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        code = run(command.main, [f"checkpoint={joint}", f"output={tmp_path / name}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and told.startswith(f"error: {tmp_path / name}: File too large: raise the limit")
    assert not list(tmp_path.iterdir())
