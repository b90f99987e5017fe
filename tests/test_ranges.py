"""Every number of the configuration has a range, every default lies in it, and messages say what would be right."""

from pathlib import Path

import pytest

from mbvision.commands.compose import compose_config, flatten
from mbvision.commands.places import check_places
from mbvision.commands.ranges import NUMBERS, WORDS, Range, find
from mbvision.errors import ConfigError

CONF = Path(__file__).parent.parent / "conf"
CHECKED_ELSEWHERE = {"input_size", "eval_size", "transform.train.eval_size", "trainer.devices", "sizes"}
"""Keys that take a number or a list of several, which their own code checks."""

REQUIRED = {"benchmark": ("checkpoint",), "export": ("checkpoint", "output"), "predict": ("checkpoint", "source")}


def choices(group: str) -> list[str]:
    return [f"{group}={path.stem}" for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("group", ["backbone", "data", "experiment", "optimizer", "schedule", "task", "trainer"])
def test_every_number_of_a_choice_has_a_range(group: str) -> None:
    for choice in choices(group):
        check_numbers("train", [choice])


@pytest.mark.parametrize("command", sorted({path.stem for path in CONF.glob("*.yaml")} - {"train"}))
def test_every_number_of_a_command_has_a_range(command: str) -> None:
    missing = [f"{key}=a" for key in REQUIRED.get(command, ())]
    check_numbers(command, missing)


def check_numbers(command: str, overrides: list[str]) -> None:
    for key, value in flatten(compose_config(command, overrides)).items():  # raises for a default out of its range
        entries = value if isinstance(value, list) else [value]
        if key not in CHECKED_ELSEWHERE and any(type(entry) in (int, float) for entry in entries):
            assert find(NUMBERS, key) or find(WORDS, key), f"{key} of {command} {overrides} has no range"


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        (Range(low=0, high=1), [0, 1, 0.5], [-1e-9, 1.1, float("nan"), float("inf"), True, "1", None, [1]]),
        (Range(low=0, high=1, above=True), [1e-9, 1], [0]),
        (Range(low=0, high=1, below=True), [0], [1]),
        (Range(low=1, whole=True), [1, 10**9], [0, 1.0, 10**10, 10**400]),
    ],
)
def test_a_range_holds_its_numbers_alone(wanted: Range, inside: list[object], outside: list[object]) -> None:
    assert all(value in wanted for value in inside) and not any(value in wanted for value in outside)


def test_a_word_that_is_nearly_right_is_corrected() -> None:
    with pytest.raises(ConfigError, match=r"fit=strech, did you mean stretch\? choose stretch, letterbox"):
        compose_config("train", ["fit=strech"])


def test_a_folder_that_is_nearly_right_is_corrected(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    config = compose_config("train", ["data=coco", f"data.root={tmp_path}/picture"])
    with pytest.raises(ConfigError, match=rf"data\.root=.*picture: .*did you mean {tmp_path}/pictures\?"):
        check_places(config)
    check_places(compose_config("train", ["data=coco", f"data.root={tmp_path}/pictures"]))


def test_the_built_in_sets_are_drawn_where_nothing_is_yet_but_not_beside_the_root_folder(tmp_path: Path) -> None:
    check_places(compose_config("train", [f"data.root={tmp_path}/new"]))
    with pytest.raises(ConfigError, match=r"data\.root=/nowhere: there is no such folder"):
        check_places(compose_config("train", ["data.root=/nowhere"]))
