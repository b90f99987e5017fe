"""``export quantize=int8`` as users type it: the pictures it calibrates with, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from mbvision import checkpoint
from mbvision.commands import export as command
from mbvision.commands import run
from mbvision.commands.calibration import calibration
from mbvision.commands.compose import compose_config
from mbvision.commands.int8_receipt import check_agreement
from mbvision.deploy.export import Exported
from mbvision.deploy.parity import Parity
from mbvision.draw import save_image
from mbvision.errors import ConfigError, ExportError
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_runs import write_grays

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("plain") / "a.ckpt", "task=lraspp")


def test_pictures_are_drawn_by_the_seed_and_fitted_as_the_checkpoint_says(plain: Path, tmp_path: Path) -> None:
    about = checkpoint.read(plain)["mbvision"]
    about["config"]["fit"] = "letterbox"
    folder = write_grays(tmp_path, 12)

    def drawn(seed: int) -> list[int]:
        keys = [f"calibration={folder}", "calibration_pictures=5", f"calibration_seed={seed}"]
        config = compose_config("export", ["checkpoint=a", "output=a.onnx", "quantize=int8", *keys])
        found = calibration(config, [])((64, 64), about)
        assert all(one.shape == (1, 3, 64, 64) for one in found)
        assert all(one[0, 0, 60, 0] != one[0, 0, 0, 0] for one in found)  # the letterbox's edge
        return [round(float(one[0, 0, 0, 0]) * 255) // 10 for one in found]

    assert drawn(0) == drawn(0) and len(set(drawn(0))) == 5 and drawn(0) != drawn(1)


def test_equal_images_are_nothing_to_calibrate_on(plain: Path, tmp_path: Path) -> None:
    for number in range(4):
        save_image(tmp_path / f"{number}.png", np.full((50, 70, 3), 128, dtype=np.uint8))
    config = compose_config("export", ["checkpoint=a", "output=a.onnx", "quantize=int8", f"calibration={tmp_path}"])
    with pytest.raises(ConfigError, match="the 4 images to calibrate on are all equal"):
        calibration(config, [])((64, 64), checkpoint.read(plain)["mbvision"])


def test_a_file_in_8_bits_that_predicts_otherwise_is_refused_where_no_score_says_better() -> None:
    def found(agreement: float) -> Exported:
        parity = Parity({}, {"detection": agreement})
        return Exported(Path("a.onnx"), [], None, [], None, parity, 1.0)  # type: ignore[arg-type]  # not looked at

    check_agreement(found(0.9))
    with pytest.raises(ExportError, match=r"a\.onnx is not written: only 20% of its predictions agree"):
        check_agreement(found(0.2))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["output=a.onnx"], "quantize=int8 needs pictures like those of training: calibration=FOLDER, or data="),
        (["output=a.onnx", "calibration=nowhere"], "calibration=nowhere: there is no picture"),
        (["output=a.pt2", "calibration=SEEN"], "quantize=int8: format=torch_export has none; choose onnx, openvino"),
        (["output=a.safetensors", "calibration=SEEN"], "quantize=int8: format=safetensors has none"),
        (["output=a.onnx", "calibration=SEEN", "keep_float=[backbone.stem]"], "did you mean backbone.stem.conv?"),
        (["output=a.onnx", "calibration=SEEN", "keep_float=stem"], "keep_float=stem: give a list of layers"),
        (["output=a.onnx", "quantize=int4"], "quantize=int4"),
        (["output=a.onnx", "calibration=SEEN", "max_drop=0.5"], "max_drop= does nothing here: goes with data="),
        (["output=a.onnx", "max_drop=-1"], "max_drop=-1"),
    ],
)
def test_a_users_mistake_is_named(
    keys: list[str], message: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = write_grays(tmp_path / "seen", 1)
    keys = [key.replace("SEEN", str(seen)).replace("output=", f"output={tmp_path}/") for key in keys]
    assert run(command.main, [f"checkpoint={plain}", "quantize=int8", *keys]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["seen"]


def test_what_openvino_cannot_compile_for_any_size_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    detector = write_checkpoint(tmp_path / "a.ckpt", "task=ssdlite")
    keys = [f"calibration={write_grays(tmp_path / 'seen', 1)}", "quantize=int8", "nms=true", "dynamic=[height,width]"]
    assert run(command.main, [f"checkpoint={detector}", f"output={tmp_path}/a.xml", *keys]) == 2
    assert "OpenVINO cannot compile nms=true in 8 bits for any height and width" in capsys.readouterr().err
