"""Labels from which nothing can be learnt, or by which no score says anything, are refused or reported."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbvision.build import build_reader
from mbvision.commands import run, train
from mbvision.commands.compose import compose_config
from mbvision.commands.label_checks import check_labels, warn_of_labels
from mbvision.commands.train import configure
from mbvision.data.base import Reader
from mbvision.data.joint import MixedReader
from mbvision.errors import ConfigError, DataError
from tests.face_sets import picture, write_celeba, write_identities
from tests.tiny_runs import SMALLEST

YES_AND_NO = ["1 -1 1", "-1 1 -1"]


def _config(task: str, data: str, root: Path, *more: str) -> dict[str, Any]:
    return compose_config("train", [f"task={task}", f"data={data}", f"data.root={root}", *more])


def _readers(config: dict[str, Any]) -> tuple[Reader, Reader]:
    train_reader, val_reader = (
        build_reader(config["data"], s, tasks=config["heads"]) for s in ("train_split", "val_split")
    )
    return train_reader, val_reader


def _check(config: dict[str, Any]) -> None:
    check_labels(config, *_readers(config))


def _classes(root: Path, *files: str) -> Path:
    for number, file in enumerate(files):
        for split in ("train", "val"):
            picture(root / split / file, number)
    return root


def test_one_class_is_refused_and_one_folder_level_too_many_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    one = _classes(tmp_path / "one", "cat/a.png", "cat/b.png")
    assert (
        run(
            train.main,
            ["task=classification", "data=image_folder", f"data.root={one}", *SMALLEST, f"run_dir={tmp_path}/r"],
        )
        == 2
    )
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(
        "data.train_split=train: 'cat' is the only class with an image, so there is nothing to tell it from"
    )
    with pytest.raises(
        DataError, match=r"'data' is the only class .* below those of the classes: cat, dog: is that one"
    ):
        _check(
            _config("classification", "image_folder", _classes(tmp_path / "deep", "data/cat/a.png", "data/dog/b.png"))
        )
    with caplog.at_level(logging.WARNING):
        _check(_config("classification", "image_folder", _classes(tmp_path / "good", "cat/a.png", "dog/b.png")))
        assert not caplog.text
        _check(_config("classification", "image_folder", _classes(tmp_path / "mid", "a/cat/a.png", "b/dog/b.png")))
    assert "folders below those of the classes: cat, dog; these say no class" in caplog.text


def test_attributes_that_teach_nothing_are_counted_and_a_set_of_them_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["1 0 1", "-1 0 1", "1 0 1", "1 1 -1", "1 -1 -1"]
    with caplog.at_level(logging.WARNING):
        _check(_config("attributes", "celeba", write_celeba(tmp_path / "some", values=rows, splits="00011")))
    assert [record.getMessage().removeprefix("data.") for record in caplog.records] == [
        "train_split=train: attributes that are never known in the 3 images: 1 (Eyeglasses); they teach nothing",
        "train_split=train: attributes that are never -1 (no) in the 3 images: 1 (Male); they teach nothing",
        "val_split=val: attributes that are never 1 (yes) in the 2 images: 1 (Male); they are not scored",
        "val_split=val: attributes that are never -1 (no) in the 2 images: 1 (Smiling); every network scores 1 on them",
    ]
    rows = ["1 0 -1", "1 0 -1", "-1 1 1"]
    with pytest.raises(
        DataError, match=r"train: none of its 3 attributes is both 1 \(yes\) and -1 \(no\) in the 2 images"
    ):
        _check(_config("attributes", "celeba", write_celeba(tmp_path / "none", values=rows, splits="001")))
    rows = [*YES_AND_NO, "-1 -1 -1"]
    with pytest.raises(DataError, match=r"val: none of its 3 attributes is both .* in the 1 images, so no score"):
        _check(_config("attributes", "celeba", write_celeba(tmp_path / "val", values=rows, splits="001")))


def test_faces_of_one_identity_or_without_pairs_are_refused(tmp_path: Path) -> None:
    for case, counts, match in (
        (
            "one",
            {"train": {"Ada": 3}, "val": {"Cem": 2, "Dee": 2}},
            r"train_split=train: all 3 images are of one identity",
        ),
        (
            "single",
            {"train": {"Ada": 2, "Ben": 2}, "val": {"Cem": 1, "Dee": 1}},
            r"val_split=val: no pair of images of one",
        ),
        ("alone", {"train": {"Ada": 2, "Ben": 2}, "val": {"Cem": 3}}, r"val_split=val: no pair of images of different"),
    ):
        for split, people in counts.items():
            write_identities(tmp_path / case / split, people)
        with pytest.raises(DataError, match=match):
            _check(_config("embedding", "identities", tmp_path / case))
    _check(_config("embedding", "identities", tmp_path / "single", "trainer.limit_val_batches=0"))


def test_an_evaluation_that_says_nothing_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_identities(tmp_path / "val", {"Ada": 1, "Ben": 1})
    config = _config("embedding", "identities", tmp_path, "data.train_split=val")
    with caplog.at_level(logging.WARNING):
        warn_of_labels(config["data"], _readers(config)[1], ["embedding"])
    assert (
        "data.val_split=val: no pair of images of one identity among 2 images of 2 identities, so its score"
        in caplog.text
    )


def test_weight_0_for_every_task_needs_a_teacher(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"^tasks\.detection\.weight=0: nothing is learnt: say distill=PATH"):
        configure(["task=ssdlite", "tasks.detection.weight=0"])
    with caplog.at_level(logging.WARNING):
        configure(["task=[ssdlite,lraspp]", "tasks.detection.weight=0"])
    assert "tasks.detection.weight=0: without a teacher this learns nothing" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.sets=[]"], r"data\.sets=\[\]: give a list of sets"),
        (["data.sets={name: coco}"], r"data\.sets=.*: give a list of sets"),
        (["data.root=at", "data.sets=[{name: coco}]"], r"data\.root=at has no effect beside .* \{root: at, \.\.\.\}"),
        (["data=voc", "data.sets=[{name: coco}]"], r"data=voc has no effect beside .* \{name: voc, \.\.\.\}"),
        (["data.sets=[{name: coco, on_bad_item: error}]"], r"sets\[0\]\.on_bad_item: .* say data\.on_bad_item=error"),
    ],
)  # fmt: skip
def test_keys_that_data_sets_would_leave_without_effect_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config("train", arguments)


def test_a_message_names_the_split_of_the_set_that_is_at_fault(tmp_path: Path) -> None:
    write_identities(tmp_path / "people/train", {"Ada": 2})
    _classes(tmp_path / "classes", "cat/a.png", "dog/b.png")
    people = f"{{name: identities, root: {tmp_path}/people, val_split: train}}"
    sets = f"[{{name: image_folder, root: {tmp_path}/classes}}, {people}]"
    config = compose_config("train", ["task=[classification,embedding]", f"data.sets={sets}"])
    train_reader, val_reader = _readers(config)
    assert isinstance(train_reader, MixedReader) and np.all(train_reader.truth["embedding"].identities == 0)
    with pytest.raises(DataError, match=r"^data\.sets\[1\]\.train_split=train: all 2 images are of one identity"):
        check_labels(config, train_reader, val_reader)
    with pytest.raises(ConfigError, match=r"^split=val has no effect beside data\.sets="):
        compose_config("evaluate", [f"data.sets={sets}", "split=val"])
