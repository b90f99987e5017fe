"""``doctor``: versions, and what on this machine will hurt before it hurts."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from mbvision.commands.compose import wants_help
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError

HELP = "Say what is installed, and what on this machine will hurt: python tools/doctor.py"
PACKAGES = (
    "mbvision",
    "torch",
    "torchvision",
    "lightning",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "pycocotools",
    "hotcoco",
    "albumentations",
    "opencv-python-headless",
    "opencv-python",
    "pillow",
    "simplejpeg",
    "av",
    "safetensors",
    "tensorboard",
    "onnxruntime",
    "openvino",
    "executorch",
)
SMALL_SHM = 512 * 2**20
"""Under this much shared memory (bytes), batches of loader workers may not fit."""
LITTLE_DISK = 2 * 2**30
LIGHTNING = ("lightning", "pytorch-lightning")
"""The same library under its two names; the first one depends on the second."""
MALICIOUS_LIGHTNING = ("2.6.2", "2.6.3")
"""Releases that steal credentials: GHSA-w37p-236h-pfx3."""
SAFE_LIGHTNING = "2.6.6"
"""The release that mends the execution of code out of checkpoints: CVE-2026-58659."""


def main(arguments: Sequence[str]) -> int:
    """Print versions, then warnings."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    if arguments:
        raise ConfigError(f"{arguments[0]}: doctor has no keys")
    import torch

    installed = versions()
    for name in PACKAGES:
        print(f"{name:<24}{installed.get(name, '-')}")
    print(f"{'python':<24}{platform.python_version()}")
    print(f"{'cores':<24}{os.cpu_count()} ({torch.get_num_threads()} threads in torch)")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"{'GPUs':<24}{', '.join(gpus) or 'none'}")
    print(f"{'free disk':<24}{shutil.disk_usage('.').free / 2**30:.1f} GiB")
    shm = shared_memory()
    print(f"{'shared memory':<24}{'-' if shm is None else f'{shm / 2**30:.1f} GiB'}")
    for line in warnings(installed, shm, shutil.disk_usage(".").free):
        print(f"warning: {line}")
    return 0


def versions() -> dict[str, str]:
    """The installed ones of `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def shared_memory() -> int | None:
    """Free bytes for passing batches between processes, where the system says so."""
    folder = Path("/dev/shm")
    return shutil.disk_usage(folder).free if folder.is_dir() else None


def warnings(installed: dict[str, str], shm: int | None, disk: int) -> list[str]:
    """What to mend, each with the remedy."""
    found = [line for name in LIGHTNING if (line := _lightning_warning(name, installed.get(name)))]
    if {"opencv-python", "opencv-python-headless"} <= set(installed):
        found.append(
            "two packages own cv2: pip uninstall opencv-python opencv-python-headless, then install the headless one"
        )
    if shm is not None and shm < SMALL_SHM:
        found.append(f"only {shm // 2**20} MiB of shared memory: loader.workers=0, or docker run --shm-size=2g")
    if disk < LITTLE_DISK:
        found.append(f"only {disk // 2**20} MiB of disk are free here: checkpoints may not fit")
    return found


def _lightning_warning(name: str, version: str | None) -> str:
    remedy = f'pip install --upgrade "{name}>={SAFE_LIGHTNING}"'
    if version in MALICIOUS_LIGHTNING:
        return (
            f"{name} {version} is a malicious release that steals credentials (GHSA-w37p-236h-pfx3): {remedy}, and"
            " replace every password and key that was within this machine's reach"
        )
    if version is not None and Version(version) < Version(SAFE_LIGHTNING):
        return f"{name} {version} can execute code out of a checkpoint (CVE-2026-58659): {remedy}"
    return ""
