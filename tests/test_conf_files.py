"""A user's own files under conf/ get the checks that a command line gets: one line that names file, key and remedy."""

import shutil
from pathlib import Path

import pytest

from mbvision.commands import compose, conf_files, kinds
from mbvision.commands.compose import compose_config, flatten
from mbvision.commands.kinds import ONE_OR_SEVERAL, OPTIONAL, PATH_KEYS, declared
from mbvision.commands.ranges import NUMBERS, find
from mbvision.errors import ConfigError

GLOBAL = "# @package _global_\n"
SHIPPED = conf_files.conf_folder()


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ to write into."""
    folder = tmp_path / "conf"
    shutil.copytree(SHIPPED, folder)
    for module in (conf_files, compose, kinds):
        monkeypatch.setattr(module, "conf_folder", lambda: folder)
    return folder


def data_yaml(**changed: str | None) -> str:
    """The text of a data set's file; a key without a value is left out."""
    keys = {"readers": "{detection: {_target_: mbvision.data.coco.coco}}", "root": "a", "images": "null"}
    keys |= {"train_split": "train", "val_split": "val", "on_bad_item": "skip", "max_bad_fraction": "0.01"}
    keys |= {"max_pixels": "1000", "sets": "null", **changed}
    return "".join(f"{key}: {value}\n" for key, value in keys.items() if value is not None)


BILLION = "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("group", "text", "message"),
    [
        ("data", data_yaml(root="\tb"), r"not valid YAML: .*indent with spaces, not tabs"),
        ("data", data_yaml() + "root: b\n", "has the key 'root' twice"),
        ("data", "- a\n- b\n", "must be a mapping"),
        ("data", "", "must be a mapping"),
        ("data", "only words", "must be a mapping"),
        ("data", data_yaml(sets=None, images=None), "has no images, sets: .* as in conf/data/scenes.yaml"),
        ("data", data_yaml(readers=None), "has no readers"),
        ("data", data_yaml(readers="5"), "data.readers=5: give a mapping"),
        ("data", data_yaml(readers="{detection: {}}"), r"data\.readers\.detection has no _target_"),
        ("data", data_yaml(train_split="2017"), r"data\.train_split=2017: give text: '2017', in quotes"),
        ("data", data_yaml(rot="b"), r"data\.rot: there is no such key, did you mean data\.root\?"),
        ("data", data_yaml(max_bad_fraction="7"), r"data\.max_bad_fraction=7: give a number in 0\.\.1"),
        ("data", data_yaml(on_bad_item="ignore"), r"data\.on_bad_item=ignore: choose skip, error"),
        ("data", b"\xff\xfe" + data_yaml().encode("utf-16-le"), "not UTF-8 text: .* save it as UTF-8"),
        ("data", BILLION + data_yaml(), "holds a reference"),
        ("experiment", "\ufeff" + GLOBAL + "seed: 3\n", "begins with a byte order mark; save it as UTF-8 without one"),
        ("experiment", GLOBAL + "schedule: 5\n", "schedule=5: give a mapping"),
        ("experiment", GLOBAL + "optimizer: 2020-01-01\n", "optimizer=2020-01-01: give a mapping"),
        ("task", GLOBAL + "heads: {detection: {_target_: a}}\n", "tasks=None: give a mapping"),
        ("transform", "train: {_target_: a}\n", "has no evaluate: .* as in conf/transform/ssd.yaml"),
        ("data", data_yaml(root="[" * 30 + "]" * 30), "nested more than 20 deep"),
        ("experiment", GLOBAL + "learning_rate: 0.1\n", "learning_rate: there is no such key"),
        ("experiment", GLOBAL + "loader: {batchsize: 3}\n", r"did you mean loader\.batch_size\?"),
        ("experiment", GLOBAL + "loader: 5\n", r"loader=5: it has keys of its own, loader\.batch_size"),
        ("experiment", GLOBAL + "loader: {batch_size: [1, 2]}\n", r"loader\.batch_size=\[1, 2\]: give one value"),
        ("experiment", GLOBAL + "ema_decay: [0.9]\n", r"ema_decay=\[0\.9\]: give one value"),
        ("experiment", GLOBAL + "reset_head: 1\n", "reset_head=1: give true or false"),
        ("experiment", GLOBAL + "seed: {a: 1}\n", r"seed\.a: there is no such key"),
        ("experiment", GLOBAL + "run_dir: {a: 1}\n", r"run_dir\.a: there is no such key"),
        ("experiment", GLOBAL + "seed: ${sed}\n", r"seed=\$\{sed\}: there is no key sed, did you mean seed\?"),
        ("experiment", GLOBAL + "seed: ${seed}\n", r"seed=\$\{seed\}: "),
        (
            "experiment",
            GLOBAL + "heads: {detecton: {width: 1}}\n",
            r"heads\.detecton has no _target_, did you mean det",
        ),
        ("experiment", GLOBAL + "defaults: [mine]\n", "its defaults lead back to it"),
        ("experiment", GLOBAL + "defaults: 5\n", "defaults=5: give a list"),
        ("experiment", GLOBAL + "trainer: {max_epoch: 3}\n", r"did you mean trainer\.max_epochs\?"),
        ("experiment", GLOBAL + "optimizer: {lr: 0}\n", r"optimizer\.lr=0: give a number above 0 up"),
        ("experiment", "loader: {batch_size: 3}\n", r"experiment: there is no such key"),
        ("trainer", "max_epochs: 3\n", "has no max_steps, accelerator,.* as in conf/trainer/default.yaml"),
        ("trainer", "defaults: [default, _self_]\nmax_epoch: 3\n", r"did you mean trainer\.max_epochs\?"),
        ("task", GLOBAL + "defaults: [ssdlite]\nlearning_rate: 1\n", "learning_rate: there is no such key"),
    ],
)
def test_a_mistake_in_an_own_file_is_one_line_that_names_it(
    group: str, text: str | bytes, message: str, conf: Path
) -> None:
    path = conf / group / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=rf"^{path}: {message}|^{path}: .*{message}") as caught:
        compose_config("train", [f"{group}=mine"])
    assert "\n" not in str(caught.value)


def test_a_backbone_without_a_width_names_the_file_and_the_key(conf: Path) -> None:
    lines = (conf / "backbone/mobilenet_v2.yaml").read_text().splitlines()
    path = conf / "backbone/mine.yaml"
    path.write_text("\n".join(line for line in lines if not line.startswith("width")))
    with pytest.raises(ConfigError, match=f"^{path}: has no width: .* as in conf/backbone/mobilenet_v3_large.yaml"):
        compose_config("train", ["backbone=mine"])


def test_own_files_of_every_kind_are_read(conf: Path) -> None:
    (conf / "data/mine.yaml").write_text("defaults: [coco, _self_]\nroot: some/where\n")
    (conf / "experiment/base.yaml").write_text(GLOBAL + "defaults: [override /data: mine]\nseed: 3\n")
    (conf / "experiment/mine.yaml").write_text(GLOBAL + "defaults: [base, _self_]\noptimizer: {lr: 1e-3}\n")
    config = compose_config("train", ["experiment=mine"])
    assert config["data"]["root"] == "some/where" and config["data"]["val_split"] == "val2017"
    assert config["seed"] == 3 and config["optimizer"]["lr"] == 0.001


def test_a_changed_file_is_read_again(conf: Path) -> None:
    for seed in (3, 14):
        (conf / "experiment/mine.yaml").write_text(f"{GLOBAL}seed: {seed}\n")
        assert compose_config("train", ["experiment=mine"])["seed"] == seed


def test_a_value_on_the_command_line_takes_the_place_of_a_wrong_one_in_a_file(conf: Path) -> None:
    (conf / "experiment/mine.yaml").write_text(GLOBAL + "seed: -1\n")
    assert compose_config("train", ["experiment=mine", "seed=2"])["seed"] == 2
    with pytest.raises(ConfigError, match=r"^seed=-2: "):  # not the file's fault
        compose_config("train", ["experiment=mine", "seed=-2"])


NAMES = ["no", "yes", "null", "~", "2020-01-01", "007", "1.10", "on", "True", "1e3", "plain", "two words"]


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_class_names_in_files_and_arguments_are_their_own_text(quote: str, conf: Path) -> None:
    text = ", ".join(f"{quote}{name}{quote}" for name in NAMES)
    reader = f"{{segmentation: {{_target_: mbvision.data.masks_folder.masks_folder, classes: [{text}]}}}}"
    (conf / "data/mine.yaml").write_text(data_yaml(readers=reader))
    (conf / "experiment/mine.yaml").write_text(
        f"{GLOBAL}defaults: [override /data: camvid]\ndata: {{readers: {{segmentation: {{classes: [{text}]}}}}}}\n"
    )
    argument = f"data.readers.segmentation.classes=[{text}]"
    for arguments in (["data=mine"], ["experiment=mine"], ["data=camvid", argument], ["data=masks_folder", argument]):
        config = compose_config("train", ["task=lraspp", *arguments])
        assert config["data"]["readers"]["segmentation"]["classes"] == NAMES, arguments
    sets = compose_config("train", ["task=lraspp", "data.sets=[{name: mine, root: b}]"])["data"]["sets"]
    assert sets[0]["readers"]["segmentation"]["classes"] == NAMES


@pytest.mark.parametrize(
    ("recipe", "argument", "path", "value"),
    [
        ("cityscapes_lraspp_mobilenet_v3_large", "eval_size=512", ["eval_size"], 512),
        ("cityscapes_lraspp_mobilenet_v3_large", "eval_size=[512,1024]", ["eval_size"], [512, 1024]),
        ("cityscapes_lraspp_mobilenet_v3_large", "eval_size=null", ["eval_size"], None),
        ("demo", "eval_size=[64,96]", ["eval_size"], [64, 96]),
        ("demo", "eval_size=64", ["eval_size"], 64),
        ("demo", "threads=null", ["threads"], None),
        ("demo", "optimizer.fused=null", ["optimizer", "fused"], None),
        ("demo_classification", "heads.classification.hidden=null", ["heads", "classification", "hidden"], None),
        ("coco_ssdlite320_torchvision", "ema_decay=0.9", ["ema_decay"], 0.9),
        ("coco_ssdlite320_torchvision", "trainer.gradient_clip_val=1", ["trainer", "gradient_clip_val"], 1),
    ],
)
def test_the_kinds_of_a_key_do_not_depend_on_the_recipe(
    recipe: str, argument: str, path: list[str], value: object
) -> None:
    node = compose_config("train", [f"experiment={recipe}", argument])
    for part in path:
        node = node[part]
    assert node == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["early_stopping=[3]"], r"early_stopping=\[3\]: give one value"),
        (["backbone.hidden=[5]"], r"backbone\.hidden=\[5\]: give one value"),
        (["experiment=imagenet_mobilenet_v1", "trainer.gradient_clip_val=[1]"], "give one value"),
        (["data.sets=5"], r"data\.sets=5: give a list"),
        (["data.sets=banana"], r"data\.sets=banana: give a list"),
        (["backbone.reduced_tail=1"], r"backbone\.reduced_tail=1: choose false, true, segmentation"),
        (["optimizer.lr=0"], r"optimizer\.lr=0: give a number above 0 up"),
        (["optimizer=adamw", "optimizer.fused=1"], r"optimizer\.fused=1: give true or false"),
        (["normalize.mean=0.5"], r"normalize\.mean=0\.5: give a list"),
        (["reset_head=null"], "reset_head=null: give true or false"),
    ],
)
def test_a_value_of_another_kind_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config("train", arguments)


def test_every_key_that_a_file_sets_to_null_may_be_null_with_any_recipe() -> None:
    known = declared("train")
    optional = set()
    for group in ("backbone", "task", "optimizer", "experiment"):
        for path in sorted((SHIPPED / group).glob("*.yaml")):
            config = flatten(compose_config("train", [f"{group}={path.stem}"]))
            optional |= {key for key, value in config.items() if value is None and find(NUMBERS, key)}
    undeclared = {key for key in optional if not (key in known and known[key] is None) and not OPTIONAL.fullmatch(key)}
    undeclared = {key for key in undeclared if not ONE_OR_SEVERAL.fullmatch(key)}
    assert not undeclared, f"add {undeclared} to mbvision.commands.kinds.OPTIONAL"


def test_paths_and_lists_are_keys_that_there_are() -> None:
    known = {key for path in SHIPPED.glob("*.yaml") for key in declared(path.stem)}
    rest = PATH_KEYS - known
    assert rest == {"backbone.weights", "data.readers.embedding.pairs"}


def test_a_key_given_twice_counts_once_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    config = compose_config("train", ["seed=1", "trainer=cpu", "seed=2", "threads=1", "threads=1", "trainer=debug"])
    assert config["seed"] == 2 and config["trainer"]["max_epochs"] == 1
    assert caplog.messages == [
        "seed is given 2 times: seed=2 counts, not seed=1",
        "trainer is given 2 times: trainer=debug counts, not trainer=cpu",
    ]
