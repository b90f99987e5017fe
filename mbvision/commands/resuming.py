"""What ``train resume=PATH`` starts from: whether the checkpoint can be gone on from, and what its folder holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mbvision import checkpoint, checkpoint_checks
from mbvision.build import Config
from mbvision.commands.run_folder import first_process
from mbvision.engine.callbacks import RunCheckpoints
from mbvision.engine.epoch_plan import check_saved
from mbvision.engine.optim import parameter_groups
from mbvision.errors import CheckpointError, ConfigError
from mbvision.network import Network

TRAINING_STATE: Mapping[str, type] = {
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "VisionData": dict,
    "random": list,
}
"""What Lightning goes on from, besides the weights."""


def check_resumable(config: Config, path: Path) -> None:
    """Refuse a checkpoint that is damaged, or of a run with another network or optimizer."""
    content = checkpoint.read(path)
    about = content.get("mbvision")
    wrong = [key for key, kind in TRAINING_STATE.items() if not isinstance(content.get(key), kind)]
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict) or wrong:
        raise CheckpointError(
            f"{path} is not a training checkpoint of mbvision{f' (no {wrong[0]} in it)' if wrong else ''};"
            " to start from its weights: pretrained="
        )
    try:
        check_saved(content["VisionData"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    checkpoint_checks.check_description(path, about)
    for key in ("backbone", "heads"):
        if about["config"].get(key) != config[key]:
            raise ConfigError(f"resume={path}: that run has another {key}; give the same keys as it did")
    if about.get("optimizer") != config["optimizer"]["_target_"]:
        raise ConfigError(f"resume={path}: that run has the optimizer {about.get('optimizer')}; it cannot change")


def check_same_parameters(path: Path, network: Network) -> None:
    """Refuse to resume where other parts of the network are trained: an optimizer's state is of certain tensors."""
    trained = [len(group["params"]) for group in checkpoint.read(path)["optimizer_states"][0]["param_groups"]]
    here = [len(group["params"]) for group in parameter_groups(network)]
    if trained != here:
        raise ConfigError(
            f"resume={path}: that run trains {sum(trained)} tensors, with these keys it would train {sum(here)}:"
            " freeze= cannot change; to start from its weights: pretrained="
        )


def check_same_classes(path: Path, class_names: Mapping[str, Sequence[str]]) -> None:
    """Refuse to resume with a data set whose classes are not those of the checkpoint."""
    known = checkpoint.read(path)["mbvision"]["class_names"]
    for head, names in known.items():
        found = list(class_names.get(head, ()))
        if found != list(names):
            raise ConfigError(
                f"resume={path}: that run has {len(names)} classes of {head}, the data {len(found)} (or other ones);"
                " to train on this set: pretrained= and reset_head=true"
            )


def take_along(resume: Path, folder: Path) -> None:
    """Give a run that goes on in another folder what it had: its state, its table, and its best checkpoint."""
    if not first_process() or folder.resolve() == resume.parent.resolve():
        return
    folder.mkdir(parents=True, exist_ok=True)
    had = {"last.ckpt": resume, "metrics.csv": resume.with_name("metrics.csv")}
    best = resume.with_name("best.ckpt")
    if best.is_file() and best_score(best) == best_score(resume):  # else it is of another run, or of a later step
        had["best.ckpt"] = best
    for name, source in had.items():
        if source.is_file() and not (folder / name).exists():
            checkpoint.copy(source, folder / name)


def best_score(path: Path) -> float | None:
    """What the run of a checkpoint had reached; None where it was not scored yet."""
    known = checkpoint.read(path).get("callbacks", {}).get(RunCheckpoints.__qualname__, {})
    return known.get("best")
