"""Arguments that make no sense are refused before data or device are touched, with the key, the value and a remedy."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mbvision.commands import complexity, export
from mbvision.commands.compose import compose_config
from mbvision.commands.places import check_places
from mbvision.commands.train import prepare
from tests.faults.case import Case

Use = Callable[[list[str]], Any]
NUMBERS = """
trainer.max_epochs=-3 trainer.max_epochs=1.5 trainer.max_epochs=many trainer.max_steps=1e30 trainer.max_steps=-2
trainer.accumulate_grad_batches=0 trainer.gradient_clip_val=-1 trainer.check_val_every_n_epoch=0
trainer.log_every_n_steps=0 trainer.limit_train_batches=-1 trainer.overfit_batches=-1 trainer.num_nodes=0
trainer.devices=0 trainer.devices=-3 trainer.devices=banana loader.workers=-1 loader.workers=1000000
loader.batch_size=0 loader.batch_size=[1,2] loader.batch_size=true loader.batch_size=99999999999
backbone.width=banana backbone.width=0 backbone.width=-1 backbone.width=nan backbone.width=inf
backbone.width=1e30 backbone.width=[1] backbone.width=null backbone.width={a:1} backbone.norm_eps=0
backbone.norm_momentum=2 input_size=0 input_size=31 input_size=1000000000 input_size=[64] input_size=[64,64,64]
input_size=[64,-64] input_size=64.5 input_size=true eval_size=big output_stride=7 crop_fraction=0
crop_fraction=1.5 seed=-1 seed=0.5 seed=99999999999999999999 threads=0 threads=-4 ema_decay=1 ema_decay=2
ema_decay=nan ema_every_n_steps=0 max_nan_steps=-1 checkpoint_every_n_steps=0 early_stopping=-1
optimizer.lr=-0.1 optimizer.lr=nan optimizer.lr=fast optimizer.momentum=1.5 optimizer.weight_decay=-1
schedule.warmup_steps=-1 schedule.warmup_factor=2 tasks.detection.score_threshold=7
tasks.detection.score_threshold=nan tasks.detection.nms_threshold=-0.1 tasks.detection.max_detections=0
tasks.detection.loss.iou_threshold=0 tasks.detection.weight=-1 heads.detection.anchors.min_scale=0
heads.detection.anchors.aspect_ratios=[2.0,-1] heads.detection.anchors.aspect_ratios=[nan]
heads.detection.extra_channels=[0] heads.detection.extra_channels=512 transform.train.flip=2
transform.train.min_side=0 transform.train.max_zoom=0.5 data.max_bad_fraction=-0.1 data.max_bad_fraction=5
data.max_pixels=0 distill_weight=-1 distill_temperature=0 normalize.std=[0,1,1] normalize.mean=[0.5,0.5]
normalize.mean=0.5
"""


def override_cases() -> Iterator[Case]:
    prepare([])  # imports what the first optimizer needs, here and not in every case
    yield from _good()
    yield from _numbers()
    yield from _words()
    yield from _keys()
    yield from _hostile()
    yield from _places()
    yield from _other_commands()


def _case(
    arguments: list[str], use: Use = prepare, *, command: str = "train", quick: bool = False, **expected: Any
) -> Case:
    name = " ".join(arguments)[:80].encode("unicode_escape").decode()
    return Case(kind="override", name=f"{command} {name}", make=lambda _: arguments, use=use, quick=quick, **expected)


def _bad(
    argument: str,
    *words: str,
    use: Use = prepare,
    more: tuple[str, ...] = (),
    command: str = "train",
    quick: bool = False,
) -> Case:
    key = argument.partition("=")[0]
    return _case([*more, argument], use, command=command, error=words or (key,), quick=quick)


def _value(argument: str, *path: str, use: Use = prepare) -> Case:
    """Loads, and the value at the end of the path is the one that was given."""

    def right(found: Any) -> bool:
        node = found[0] if isinstance(found, tuple) else found
        for part in path:
            node = node[part]
        return str(node) == argument.partition("=")[2]

    return _case([argument], use, loads=right)


def _good() -> Iterator[Case]:
    yield _value("backbone.width=0.35", "backbone", "width")
    yield _value("input_size=[256, 384]", "input_size")
    yield _value("trainer.max_steps=5", "trainer", "max_steps")
    yield _value("seed=4294967295", "seed")
    yield _value("loader.workers=0", "loader", "workers")
    yield _case(["ema_decay=null"], loads=lambda found: found[0]["ema_decay"] is None)
    yield _case(["optimizer.lr=1e-3"], loads=lambda found: found[0]["optimizer"]["lr"] == 0.001)


def _numbers() -> Iterator[Case]:
    for argument in NUMBERS.split():
        quick = argument in ("trainer.max_epochs=-3", "backbone.width=banana", "loader.workers=-1", "ema_decay=nan")
        yield _bad(argument, quick=quick)


def _words() -> Iterator[Case]:
    yield _bad("freeze=head", "freeze=head", "backbone")
    yield _bad("fit=stretsh", "fit=stretsh", "did you mean stretch?", quick=True)
    yield _bad("data.on_bad_item=ignore", "data.on_bad_item=ignore", "skip")
    yield _bad("class_slots=ids", "class_slots=ids", "category_ids")
    yield _bad("trainer.precision=17", "trainer.precision=17", "16-mixed")
    yield _bad("trainer.accelerator=gpuu", "trainer.accelerator=gpuu", "gpu")
    yield _bad("trainer.strategy=dpp", "trainer.strategy=dpp", "did you mean ddp?")
    yield _bad("backbone.padding=some", "backbone.padding=some", "same")
    yield _bad("tasks.detection.score=soft", "score='soft'", "softmax")
    yield _bad("heads.detection.predictor=sparse", "sparse")
    yield _bad("heads.detection.taps=[c99]", "c99")
    yield _bad("heads.detection.anchors.layout=keras", "keras", "tensorflow")
    yield _bad("tensorboard=maybe", "tensorboard=maybe", "true or false")
    yield _bad("reset_head=1", "reset_head=1")


def _keys() -> Iterator[Case]:
    for argument, wanted in {
        "tasks.detection.score_treshold=0.5": "did you mean tasks.detection.score_threshold?",
        "trainer.max_epoch=3": "did you mean trainer.max_epochs?",
        "sead=3": "did you mean seed?",
        "backbone=mobilenet_v3_larg": "did you mean mobilenet_v3_large?",
        "task=sdlite": "did you mean ssdlite?",
        "data=coc": "did you mean coco?",
        "optimizer=sgdd": "did you mean sgd?",
        "experiment=dmo": "did you mean demo?",
        "loader.worker=2": "did you mean loader.workers?",
    }.items():
        yield _bad(argument, argument.partition("=")[0], wanted, quick="score_treshold" in argument)
    for argument in (
        "backbon=mobilenet_v2",
        "nosuchgroup=x",
        "nosuchgroup/x=y",
        "backbone=null",
        "backbone=",
        "task=[ssdlite,ssd]",
        "task=[ssdlite,nosuch]",
        "trainer=fast",
        "a.b.c.d=1",
        "backbone.width.x=1",
        "data.sets=[{name: nosuch}]",
        "data.sets=[{name: coco, roots: a}]",
        "data.sets=[5]",
        "data.sets=banana",
        "data.sets=[{name: coco, root: /nowhere, tasks: [nosuch]}]",
        "trainer=5",
        "heads=5",
        "tasks=null",
        "normalize=null",
    ):
        yield _bad(argument, argument.partition("=")[0].partition(".")[0].partition("/")[0])
    for argument in (
        "",
        "=",
        "=5",
        "backbone",
        "--nosuch",
        "key with space=1",
        "seed=",
        "seed==1",
        "se\ned=1",
        "\x1b[2Jseed=1",
    ):
        yield _case([argument], error=())


def _hostile() -> Iterator[Case]:
    touch = "touch ../outside/pwned"
    for part in (
        "backbone",
        "heads.detection",
        "tasks.detection",
        "tasks.detection.loss",
        "transform.train",
        "optimizer",
        "schedule",
        "heads.detection.anchors",
    ):
        for target in (
            "os.system",
            "builtins.eval",
            "subprocess.Popen",
            "mbvision.data.scenes.make_scenes",
            "torch.load",
            "mbvision.checkpoint.load",
        ):
            yield _bad(
                f"{part}._target_={target}",
                f"{part}._target_={target}",
                quick=target == "os.system" and part == "optimizer",
            )
    yield _bad("backbone._target_=mbvision.data.celeba.celeba", "backbone._target_")
    yield _bad("optimizer._target_=mbvision.heads.lraspp.LRASPP", "optimizer._target_")
    yield _bad("optimizer._target_=torch.optim.SGDD", "did you mean torch.optim.SGD?")
    for argument in (
        f"+hydra.run.dir=$({touch})",
        f"hydra.callbacks.x={{_target_: os.system, command: '{touch}'}}",
        f"+x={{_target_: os.system, command: '{touch}'}}",
        f"++backbone.x={{_target_: os.system, command: '{touch}'}}",
        f"backbone.width={{_target_: os.system, command: '{touch}'}}",
        f"tasks.detection.loss={{_target_: os.system, command: '{touch}'}}",
        "++optimizer.foreach=banana",
        "~backbone.width",
        "~seed",
        "hydra/job_logging=none",
        "hydra.searchpath=[file:///etc]",
        "--config-path=/etc",
        "--config-dir=/etc",
        "--config-name=evil",
    ):
        yield _case([argument], error=(), quick="os.system" in argument)
    for argument in (
        "seed=${oc.env:HOME}",
        "seed=${nosuch}",
        "seed=${seed}",
        "trainer.max_epochs=${python:1}",
    ):
        yield _bad(argument)
    nested = "[" * 5000 + "]" * 5000
    for argument in (
        f"normalize.mean={nested}",
        "normalize.mean=[" + "1," * 100_000 + "1]",
        f"seed={'9' * 10_000}",
        f"{'a' * 10_000}=1",
        f"{'a.' * 3000}b=1",
    ):
        yield _case([argument], error=())


def _places() -> Iterator[Case]:
    yield _bad("data.root=/nowhere", "data.root=/nowhere", quick=True)
    yield _bad("data.root=/nowhere", "data.root=/nowhere", more=("data=coco",))
    for key in ("pretrained", "backbone.weights", "resume", "distill", "distill_pictures"):
        yield _bad(f"{key}=/nowhere/x.ckpt", f"{key}=/nowhere/x.ckpt")
    yield _bad("data.images=nowhere", "data.images=nowhere", more=("data=coco", "data.root=."))

    def make(folder: Path) -> list[str]:
        (folder / "pictures-of-cats").mkdir()
        return ["data=coco", f"data.root={folder}/picture-of-cats"]

    yield Case(
        kind="override",
        name="data.root that is nearly right",
        make=make,
        use=prepare,
        error=("did you mean", "pictures-of-cats?"),
    )


def _other_commands() -> Iterator[Case]:
    def composed(name: str) -> Use:
        def use(arguments: list[str]) -> Any:
            config = compose_config(name, arguments)
            return check_places(config) if name == "evaluate" else config

        return use

    for argument in [
        "score_threshold=7",
        "score_threshold=nan",
        "iou=0",
        "iou=2",
        "style=cocoo",
        "backend=none",
        "samples=-1",
        "loader.batch_size=0",
        "loader.workers=-1",
        "scales=[0]",
        "scales=1",
        "scales=[nan]",
        "flip=maybe",
        "scor_threshold=1",
        "data.root=/nowhere",
        "checkpoint=/nowhere/x.ckpt",
    ]:
        yield _bad(argument, use=composed("evaluate"), command="evaluate")
    for argument in [
        "score_threshold=2",
        "smoothing=1",
        "smoothing=-1",
        "smoothing=nan",
        "sorce=x",
        "score_threshold=high",
    ]:
        more = ("checkpoint=a", "source=b") if "sorce" not in argument else ()
        yield _bad(argument, use=composed("predict"), more=more, command="predict")
    yield _bad("format=onnx", use=export.main, more=("checkpoint=a", "output=b"), command="export")
    for argument in [
        "num_classes=0",
        "value_bytes=0",
        "value_bytes=100",
        "widths=[]",
        "widths=[0]",
        "widths=[banana]",
        "sizes=[]",
        "sizes=[7]",
        "convention=mine",
        "output=x.txt",
        "picture=x.gif",
        "part=nosuch",
        "input_size=5",
    ]:
        yield _bad(argument, use=complexity.main, command="complexity")
