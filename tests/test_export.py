"""Files of other runtimes: the numbers of the network they came from, used like its checkpoint."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import mbvision
from mbvision.commands import evaluate, predict, run
from mbvision.commands.predict_outputs import RECORD
from mbvision.data.frames import PictureSequence
from mbvision.deploy import formats, onnx
from mbvision.deploy.export import export
from mbvision.deploy.parity import LIKE_BOX, SAME_BOX, agreement, compare, same_selection
from mbvision.deploy.runtime import Runtime
from mbvision.deploy.samples import sample_pictures
from mbvision.draw import save_image
from mbvision.errors import CheckpointError, ConfigError, ExportError
from mbvision.structures import Detections
from tests.tiny_checkpoints import write_checkpoint

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("joint") / "a.ckpt", "task=[ssdlite,lraspp]")


@pytest.fixture(scope="module")
def file(joint: Path) -> Path:
    """The same network as ONNX."""
    done = export(joint, joint.with_name("a.onnx"), pictures=sample_pictures, masks="logits")
    assert done.parity is not None and done.parity.largest < 1e-5 and done.parity.worst_agreement == 1
    return done.path


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 90, 3), dtype=np.uint8)


def test_the_file_predicts_what_the_checkpoint_does(joint: Path, file: Path) -> None:
    ours, theirs = mbvision.load(joint, device="cpu"), mbvision.load(file)
    pictures = [picture(seed) for seed in range(3)]
    for one, other in zip(ours.predict(pictures), theirs.predict(pictures), strict=True):
        assert len(one.boxes) == len(other.boxes) > 10
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
        assert one.names == other.names
        assert one.mask is not None and other.mask is not None and (one.mask == other.mask).mean() > 0.999


def test_the_file_tells_no_paths_of_the_machine_that_wrote_it(file: Path) -> None:
    assert b".py" not in file.read_bytes()


def test_onnxruntime_alone_finds_names_and_metadata(file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["images"]
    assert [one.name for one in session.get_outputs()] == ["boxes", "scores", "logits"]
    about = session.get_modelmeta().custom_metadata_map
    assert {"task", "names", "imgsz", "stride", "score_threshold", "mbvision_version"} <= set(about)
    for batch in (1, 5):
        boxes = session.run(["boxes"], {"images": np.zeros((batch, 3, 64, 64), np.float32)})[0]
        assert len(boxes) == batch


def test_predict_takes_the_file(file: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    assert run(predict.main, [f"checkpoint={file}", f"source={tmp_path}/a.png", f"output={tmp_path}/out"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.jpg", "a.json", "a.png", RECORD}


def test_selection_in_the_file_is_exact_for_every_picture_of_a_batch(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "a.ckpt", "task=ssdlite", "tasks.detection.max_detections=40")
    done = export(source, tmp_path / "a.onnx", pictures=sample_pictures, nms=True)
    assert done.outputs == ["boxes", "scores", "labels", "count"] and done.parity is not None
    assert done.parity.agreement == {"detection": 1.0} and done.parity.differences == {}
    ours, theirs = mbvision.load(source, device="cpu"), mbvision.load(tmp_path / "a.onnx")
    pictures = [picture(seed) for seed in range(3)]
    for one, other in zip(ours.predict(pictures), theirs.predict(pictures), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert one.names == other.names


def test_what_counts_as_the_same_detection_in_float_and_in_8_bits() -> None:
    def found(*boxes: tuple[float, ...], label: int = 1) -> Detections:
        labels = torch.full((len(boxes),), label)
        return Detections(boxes=torch.tensor(boxes), scores=torch.linspace(1, 0.5, len(boxes)), labels=labels)

    one = found((0, 0, 10, 10), (20, 20, 30, 40))
    near = found((20, 20, 30, 40), (0, 0, 10, 8))  # the other way round, and one with an overlap of 0.8
    assert [agreement(one, near, overlap) for overlap in (SAME_BOX, LIKE_BOX)] == [0.5, 1]
    assert agreement(one, found((0, 0, 10, 10), (20, 20, 30, 40), label=2), LIKE_BOX) == 0


def test_near_ties_are_no_difference_but_wrong_boxes_and_scores_are(tmp_path: Path) -> None:
    """As after a step of training: the scores are almost equal, so rounding decides which boxes are selected."""
    untrained = write_checkpoint(tmp_path / "a.ckpt", "task=ssdlite", spread=False)
    done = export(untrained, tmp_path / "a.onnx", pictures=sample_pictures, nms=True)
    assert done.parity is not None and done.parity.worst_agreement == 1
    runtime = done.runtime
    assert isinstance(runtime, onnx.OnnxRuntime)

    class Wrong(Runtime):
        metadata, shape = runtime.metadata, runtime.shape

        def __init__(self, **factors: float) -> None:
            self.factors = factors

        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            found = runtime.run(images)
            return found | {name: found[name] * np.float32(factor) for name, factor in self.factors.items()}

    for factors, most in (({"boxes": 0.7}, 0.5), ({"scores": 0.99}, 0)):
        assert compare(done.eager.network, Wrong(**factors), done.pictures).worst_agreement <= most


def test_near_ties_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 40]])
    scores = torch.tensor([[0.9], [0.8999], [0.4]])

    def found(*rows: int) -> Detections:
        labels = torch.zeros(len(rows), dtype=torch.int64)
        return Detections(boxes=boxes[list(rows)], scores=scores[list(rows), 0], labels=labels)

    same = partial(same_selection, boxes=boxes, scores=scores, same_box=SAME_BOX, same_score=1e-3, least=0.3995)
    assert same(found(0, 2), found(1, 2)) == 1  # either of the first two suppresses the other
    assert same(found(0, 2), found(0)) == 1  # the last one is at the threshold
    assert same(found(0, 2), found(2)) == 0.5
    assert same(found(0), found()) == 0 and same(found(), found()) == 1
    moved = Detections(boxes=boxes[:1] + 3, scores=scores[:1, 0], labels=torch.zeros(1, dtype=torch.int64))
    assert same(found(0), moved) == 0


@pytest.mark.parametrize(("format", "name"), [("onnx", "a.onnx"), ("torch_export", "a.pt2"), ("openvino", "a.xml")])
def test_one_file_takes_any_size(joint: Path, tmp_path: Path, format: str, name: str) -> None:
    if format == "openvino":
        pytest.importorskip(format, reason=f"{format} is not installed")
    done = export(
        joint,
        tmp_path / name,
        format=format,
        pictures=sample_pictures,
        dynamic=["batch", "height", "width"],
        masks="logits",
    )
    assert done.runtime is not None
    # maps of 1x1 come after stride 32 in the first, and more than one window of the large pool in the last
    for shape in ((1, 3, 32, 64), (3, 3, 97, 131), (1, 3, 64, 1140), (2, 3, 160, 96), (3, 3, 97, 131)):
        images = np.random.default_rng(0).random(shape, dtype=np.float32)
        expected, found = done.eager.run(images), done.runtime.run(images)
        for output, values in expected.items():
            np.testing.assert_allclose(found[output], values, rtol=1e-4, atol=1e-4)


def test_openvino_names_the_first_of_equal_classes(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    from openvino import opset13 as ops

    from mbvision.deploy.openvino import quicken_argmax

    values = ops.parameter([2, 5, 3, 4], np.float32)
    found = ops.topk(values, ops.constant(1), 1, "max", "index").output(1)
    model = openvino.Model([found], [values])
    quicken_argmax(model)
    assert "TopK" not in {node.get_type_name() for node in model.get_ordered_ops()}
    given = np.random.default_rng(0).integers(0, 3, (2, 5, 3, 4)).astype(np.float32)
    (answer,) = openvino.Core().compile_model(model, "CPU")(given).values()
    np.testing.assert_array_equal(answer[:, 0], given.argmax(axis=1))
    others = [ops.topk(values, ops.constant(k), 1, mode, "index").output(1) for k, mode in ((2, "max"), (1, "min"))]
    model = openvino.Model(others, [values])
    quicken_argmax(model)
    assert [node.get_type_name() for node in model.get_ordered_ops()].count("TopK") == 2


def test_a_file_with_other_numbers_is_not_left_behind(
    joint: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_before = formats.FORMATS["onnx"]._replace(write=lambda _, __, path, **___: shutil.copy(file, path))
    monkeypatch.setitem(formats.FORMATS, "onnx", written_before)
    honest = onnx.OnnxRuntime.run

    def wrong(self: onnx.OnnxRuntime, images: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values * 1.01 if name == "boxes" else values for name, values in honest(self, images).items()}

    monkeypatch.setattr(onnx.OnnxRuntime, "run", wrong)
    with pytest.raises(ExportError, match=r"b\.onnx is not written: its outputs differ .* by 1\.0e-02"):
        export(joint, tmp_path / "b.onnx", pictures=sample_pictures, masks="logits")
    assert not list(tmp_path.iterdir())


def test_a_float_file_leaves_no_table_of_the_8_bits_that_it_replaces(joint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx.sensitivity.json").touch()
    export(joint, tmp_path / "a.onnx", pictures=sample_pictures, masks="logits")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_what_is_no_onnx_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not a network")
    with pytest.raises(CheckpointError, match=r"a\.onnx is no ONNX file that can be run"):
        mbvision.load(tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=r"b\.onnx: there is no such file"):
        mbvision.load(tmp_path / "b.onnx")


def test_a_number_that_is_none_is_infinitely_far(
    joint: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = onnx.OnnxRuntime.run

    def broken(self: onnx.OnnxRuntime, images: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values * np.nan if name == "scores" else values for name, values in honest(self, images).items()}

    monkeypatch.setattr(onnx.OnnxRuntime, "run", broken)
    with pytest.raises(ExportError, match="by inf of their largest value"):
        export(joint, tmp_path / "a.onnx", pictures=sample_pictures)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("scales=[0.5,1.0]", "scales=, flip= and window= take the checkpoint"),
        ("flip=true", "scales=, flip= and window= take the checkpoint"),
        ("window=true", "scales=, flip= and window= take the checkpoint"),
        ("input_size=128", r"input_size=128: .*a\.onnx was exported for 64x64 alone"),
    ],
)
def test_what_a_file_cannot_do_is_refused(
    key: str, message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(evaluate.main, [f"checkpoint={file}", f"output_dir={tmp_path}", key]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(("task", "allowed"), [("ssdlite", False), ("lraspp", True)])
def test_masks_without_logits_cannot_be_smoothed(task: str, allowed: bool, tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", picture(0))
    model = mbvision.load(write_checkpoint(tmp_path / "a.ckpt", f"task={task}"), device="cpu")
    refused = nullcontext() if allowed else pytest.raises(ConfigError, match="smoothing= averages the logits of masks")
    with refused, model.run(PictureSequence([tmp_path / "a.png"]), smoothing=0.5) as run:
        assert len(list(run)) == 1


@pytest.mark.parametrize(("format", "suffix"), [("openvino", ".xml"), ("executorch", ".pte"), ("torch_export", ".pt2")])
def test_other_formats_give_the_same_numbers(format: str, suffix: str, joint: Path, tmp_path: Path) -> None:
    if format != "torch_export":
        pytest.importorskip(format, reason=f"{format} is not installed")
    done = export(joint, tmp_path / f"a{suffix}", format=format, pictures=sample_pictures, masks="logits")
    assert done.parity is not None and done.parity.largest < 1e-4 and done.parity.worst_agreement == 1
    assert str(Path(mbvision.__file__).parent).encode() not in done.path.read_bytes()
    if format != "torch_export":
        ours, theirs = mbvision.load(joint, device="cpu"), mbvision.load(done.path)
        np.testing.assert_allclose(ours.predict(picture(0)).scores, theirs.predict(picture(0)).scores, atol=1e-5)
    else:
        with pytest.raises(CheckpointError, match=r"a\.pt2 is an exported file: give the checkpoint"):
            mbvision.load(done.path)
    if format == "openvino":
        done.path.with_suffix(".bin").unlink()
        with pytest.raises(CheckpointError, match=r"a\.xml: its weights, a\.bin, must lie beside it"):
            mbvision.load(done.path)


@pytest.mark.parametrize(("given", "identified"), [(None, False), ("0", True)])
def test_onnxruntime_leaves_no_identifier_unless_the_user_asks_for_its_telemetry(
    file: Path, tmp_path: Path, given: str | None, identified: bool
) -> None:
    """Its telemetry writes an identifier into the user's cache as soon as it is imported."""
    quiet = ("ORT_", "CI", "GITHUB_", "XDG_", "TF_BUILD", "JENKINS")  # it keeps still where one builds or tests
    environment = {key: value for key, value in os.environ.items() if not key.startswith(quiet)}
    environment |= {"HOME": str(tmp_path / "home"), **({"ORT_DISABLE_TELEMETRY": given} if given else {})}
    (tmp_path / "home").mkdir()
    script = (
        "import os, sys; from pathlib import Path; before = os.environ.get('ORT_DISABLE_TELEMETRY')\n"
        "from mbvision.deploy.onnx import OnnxRuntime; OnnxRuntime(Path(sys.argv[1]))\n"
        "assert os.environ.get('ORT_DISABLE_TELEMETRY') == before"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], env=environment, check=True)
    assert bool(list((tmp_path / "home").rglob("deviceid"))) is identified
