"""Learning from a frozen teacher: what changes, what stays, what fits, and what is said where it does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands import fitting
from mbvision.commands.compose import compose_config
from mbvision.commands.distilling import load_teacher
from mbvision.commands.train import configure
from mbvision.data.portraits import make_portraits
from mbvision.data.unlabelled import WithUnlabelled
from mbvision.engine import callbacks
from mbvision.engine.teacher import Teacher
from mbvision.errors import ConfigError, DataError
from tests.face_sets import picture
from tests.tiny_runs import build, config, differing, fit, write_coco

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning", "ignore::FutureWarning:lightning")
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=4, val=2)


@pytest.fixture(scope="module")
def alone(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's run without a teacher; it serves as the others' teacher too."""
    folder = tmp_path_factory.mktemp("alone")
    fit(config(boxes, "seed=1"), folder)
    return folder / "last.ckpt"


def test_a_teacher_of_weight_0_changes_nothing_and_is_kept_nowhere(boxes: Path, alone: Path, tmp_path: Path) -> None:
    fit(config(boxes, "seed=1", f"distill={alone}", "distill_weight=0.0"), tmp_path)
    found, expected = checkpoint.read(tmp_path / "last.ckpt"), checkpoint.read(alone)
    assert not differing(found["state_dict"], expected["state_dict"])
    assert not differing(found["current_model_state"], expected["current_model_state"])


def test_a_teacher_teaches_without_labels_stays_as_it_is_and_a_resumed_run_ends_the_same(
    boxes: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of weight 0: from another start the student's outputs come nearer to the teacher's."""
    more = ["seed=2", f"distill={alone}", "tasks.detection.weight=0.0", "ema_decay=null", "optimizer.lr=0.02"]
    teachers: list[Teacher] = []
    write = callbacks.write

    def keep(path: Path, content: dict[str, Any]) -> None:
        write(path, content)
        shutil.copy(path, tmp_path / f"step_{content['global_step']}.ckpt")

    def note(*given: Any) -> Teacher | None:
        teacher = load_teacher(*given)
        assert teacher is not None
        teachers.append(teacher)
        return teacher

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "write", keep)
        patch.setattr(fitting, "load_teacher", note)
        fit(config(boxes, *more, "checkpoint_every_n_steps=1", "trainer.max_epochs=4"), tmp_path / "whole")
    untouched = checkpoint.network_weights(checkpoint.read(alone))
    assert not differing(teachers[0].network.state_dict(), untouched)
    header, *lines = (tmp_path / "whole" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("train/detection/distill_class")
    losses = [float(line.split(",")[column]) for line in lines if line.split(",")[column]]
    assert len(losses) == 8 and sum(losses[-2:]) < sum(losses[:2])  # two steps see all images
    fit(config(boxes, *more, "trainer.max_epochs=4"), tmp_path / "again", resume=tmp_path / "step_3.ckpt")
    found, whole = (checkpoint.read(tmp_path / run / "last.ckpt") for run in ("again", "whole"))
    assert not differing(found["state_dict"], whole["state_dict"])


def test_gradients_are_of_the_student_alone(boxes: Path, alone: Path) -> None:
    module, _ = build(config(boxes, f"distill={alone}", "distill_temperature=2.0"))
    assert module.teacher is not None and module.tasks["detection"].temperature == 2.0
    images = torch.rand(2, 3, 64, 64)
    goals, outputs = module.teacher(images), module.network(images)
    assert not goals["detection"].logits.requires_grad and not module.teacher.network.training
    losses = module.tasks["detection"].distillation(outputs["detection"], goals["detection"], (64, 64))
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.network.parameters())
    assert all(p.grad is None and not p.requires_grad for p in module.teacher.network.parameters())
    assert not any("teacher" in name for name in module.state_dict())


def test_a_teacher_sees_the_pictures_through_its_own_normalisation(boxes: Path, alone: Path) -> None:
    module, _ = build(config(boxes, f"distill={alone}", "normalize.mean=[0.1,0.2,0.3]"))
    assert module.teacher is not None
    ours, theirs = module.network.get_buffer("mean"), module.teacher.network.get_buffer("mean")
    assert not torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("heads.detection.anchors.max_scale=0.9", r"its \d+ anchors are not the \d+ of the network"),
        ("input_size=96", None),  # another size than the teacher was trained at has anchors of its own: it fits
    ],
)
def test_other_anchors_are_told_at_the_start(boxes: Path, alone: Path, key: str, message: str | None) -> None:
    settings = compose_config("train", [*_without_size(boxes), key, f"distill={alone}"])
    if message is None:
        build(settings)
        return
    with pytest.raises(ConfigError, match=rf"distill={alone}: {message}"):
        build(settings)


def _without_size(boxes: Path) -> list[str]:
    from tests.tiny_runs import arguments

    return [argument for argument in arguments(boxes) if not argument.startswith("input_size=")] + ["eval_size=64"]


def test_other_classes_and_other_heads_are_told_at_the_start(alone: Path) -> None:
    config, _ = configure(["backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=64", f"distill={alone}"])
    network = build_network(config, {"detection": 3})
    with pytest.raises(ConfigError, match=r"its classes of detection are \['bright', 'dark'\], the network's"):
        load_teacher(config, network, {}, {"detection": ("a", "b", "c")})
    with pytest.raises(ConfigError, match="that network has no head attributes; it has detection"):
        load_teacher(config, network, {}, {"attributes": ("a",)})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("distill_weight=-1.0", r"distill_weight=-1\.0: give a number from 0 up"),
        ("distill_temperature=0.0", r"distill_temperature=0\.0: give a number above 0"),
        ("distill_pictures=folder", "distill_pictures= needs a teacher"),
    ],
)
def test_senseless_values_are_refused(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure([argument])


def test_pictures_without_labels_come_after_the_others(boxes: Path, tmp_path: Path) -> None:
    for name in ("b.png", "deeper/a.jpg"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    settings = config(boxes, "distill=teacher.ckpt", f"distill_pictures={tmp_path}")
    reader, _ = fitting.build_readers(settings)
    assert isinstance(reader, WithUnlabelled) and len(reader) == 4 + 2
    target = reader.read(5).target
    assert (
        target.image_id == "unlabelled/deeper/a.jpg"
        and target.boxes is None
        and reader.read(0).target.boxes is not None
    )
    with pytest.raises(DataError, match="there is no such folder; check distill_pictures="):
        WithUnlabelled(reader, tmp_path / "none")
    with pytest.raises(DataError, match="holds no picture; check distill_pictures="):
        (tmp_path / "empty").mkdir()
        WithUnlabelled(reader, tmp_path / "empty")


def test_two_processes_learn_from_a_teacher_and_score_faces_as_one_does(tmp_path: Path) -> None:
    """Seven pictures in validation: two processes cannot share them evenly."""
    import json

    from mbvision.commands import evaluate, train

    root = tmp_path / "faces"
    make_portraits(root, train_people=4, val_people=2, pictures=4)
    partition = root / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace("000024.jpg 1", "000024.jpg 2"))
    data = ["data=celeba", f"data.root={root}", "loader.workers=0", "loader.batch_size=4"]
    small = ["backbone=mobilenet_v3_small", "backbone.width=0.35", "input_size=64", "trainer.enable_progress_bar=false"]
    common = ["task=[attributes,embedding]", *data, *small, "trainer=cpu", "trainer.max_steps=2"]
    assert train.main([*common, f"run_dir={tmp_path}/teacher"]) == 0
    command = [sys.executable, str(REPOSITORY / "tools" / "train.py"), *common, f"run_dir={tmp_path}/two"]
    command += ["trainer.devices=2", "trainer.strategy=ddp", f"distill={tmp_path}/teacher/best.ckpt"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    best = [f"checkpoint={tmp_path}/two/best.ckpt", "device=cpu", "samples=0", f"output_dir={tmp_path}/out"]
    assert evaluate.main([*data, *best, f"output={tmp_path}/one.json"]) == 0
    two, one = (json.loads(path.read_text()) for path in (tmp_path / "two" / "metrics.json", tmp_path / "one.json"))
    assert one["images"] == 7 and one["pairs"] == 21 and 0 <= one["mean_AP"] <= 1 and 0 <= one["verification_AUC"] <= 1
    assert {key: value for key, value in two.items() if key not in ("step", "epoch")} == one
