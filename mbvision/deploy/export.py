"""From a checkpoint to a file of another format that gives the same numbers, or to no file at all."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbvision import checkpoint
from mbvision.build import eval_size
from mbvision.deploy.about import metadata
from mbvision.deploy.exported import Eager
from mbvision.deploy.fold import folded
from mbvision.deploy.formats import Format, find_format
from mbvision.deploy.parity import Parity, compare
from mbvision.deploy.runtime import Runtime, require
from mbvision.deploy.wrap import DeployedNetwork, Masks
from mbvision.errors import ConfigError, ExportError
from mbvision.writing import temporary_folder, writing

Pictures = Callable[[tuple[int, int], int], Sequence[Tensor]]
TOLERANCE = 1e-3
"""The largest difference of an output, of its largest value, that a float file may show."""
SAME = 0.99
"""The least share of predictions that a float file and the network must have in common."""


class Exported(NamedTuple):
    """A written file beside the network; ``runtime`` and ``parity`` are None where the file does not run here."""

    path: Path
    outputs: list[str]
    eager: Eager
    pictures: Sequence[Float[Tensor, "B 3 H W"]]
    runtime: Runtime | None
    parity: Parity | None
    megabytes: float


def export(
    source: Path,
    output: Path,
    *,
    format: str = "onnx",
    pictures: Pictures,
    nms: bool = False,
    masks: Masks = "labels",
    input_size: tuple[int, int] | None = None,
    batch: int = 1,
    dynamic: Sequence[str] | None = None,
) -> Exported:
    """Write a checkpoint in another format, run the file on the pictures, and compare.

    ``pictures`` gives batches in 0..1 for an input size and a number of images; of axes that are ``dynamic`` another
    shape is compared too. The input has ``batch`` images of ``input_size`` but for the ``dynamic`` axes of it, by
    default the batch where the format allows that. Raises ExportError, and leaves no file, where the numbers differ by
    more than `TOLERANCE` or predictions by more than `SAME`; ConfigError for what the format does not have, and for
    missing packages.
    """
    plan = prepare(
        source, output, format=format, nms=nms, masks=masks, input_size=input_size, batch=batch, dynamic=dynamic
    )
    shown = pictures(plan.size, batch)
    with writing(output), temporary_folder(output) as folder:
        written = folder / output.name
        plan.format.write(plan.network, plan.example, written, dynamic=plan.dynamic, metadata=plan.metadata)
        size_of = megabytes(folder)
        runtime, parity = None, None
        if plan.format.runtime is not None:
            runtime = plan.format.runtime(written)
            parity = compare(plan.network, runtime, [*shown, *other_shape(plan, pictures, batch)])
            check(parity, output)
        place(folder, output)
        table_of(output).unlink(missing_ok=True)  # of a file in 8 bits that was there before
    eager = Eager(plan.network, plan.metadata)
    return Exported(output, plan.network.output_names, eager, shown, runtime, parity, size_of)


class Plan(NamedTuple):
    """A network ready to be written: ``dynamic`` are the axes of its input that are not those of the ``example``."""

    format: Format
    network: DeployedNetwork
    about: dict[str, Any]
    metadata: dict[str, str]
    example: Float[Tensor, "B 3 H W"]
    size: tuple[int, int]
    dynamic: list[str]


def prepare(
    source: Path,
    output: Path,
    *,
    format: str,
    nms: bool,
    masks: Masks,
    input_size: tuple[int, int] | None,
    batch: int,
    dynamic: Sequence[str] | None,
) -> Plan:
    """What ``export`` writes. Raises ConfigError for what the format does not have, and for missing packages."""
    chosen = find_format(format, output)
    if output.is_dir() and not (output / "Manifest.json").is_file():
        raise ConfigError(f"output={output} is a folder; give a file")
    for package in chosen.packages:
        require(package, f"format={format}")
    if batch < 1:
        raise ConfigError(f"batch={batch}: give at least 1")
    axes = list(chosen.dynamic[:1] if dynamic is None else dynamic)
    if wrong := [axis for axis in axes if axis not in chosen.dynamic]:
        has = f"dynamic axes for {', '.join(chosen.dynamic)}" if chosen.dynamic else "no dynamic axes"
        raise ConfigError(f"dynamic={axes}: format={format} has {has}, not {wrong[0]}")
    if nms and chosen.suppress is None:
        raise ConfigError(
            f"nms=true: format={format} has no operator for it; leave it out, and select outside of the file"
        )
    network, tasks, about = checkpoint.rebuild(checkpoint.read(source), source)
    size = input_size or eval_size(about["config"])
    deployed = DeployedNetwork(
        network=folded(network).to(memory_format=torch.contiguous_format),
        tasks=tasks,
        suppress=chosen.suppress if nms else None,
        masks=masks,
        any_size="height" in axes or "width" in axes,
    ).eval()
    stride = max(spec.stride for spec in network.backbone.features.values())
    text = metadata(about, size, stride=stride, outputs=deployed.outputs)
    shape = (max(batch, 2) if "batch" in axes else batch, 3, *size)
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return Plan(chosen, deployed, about, text, example, size, axes)


def other_shape(plan: Plan, pictures: Pictures, batch: int) -> list[Float[Tensor, "B 3 H W"]]:
    """A batch that is larger in every axis that is not fixed; none where all are."""
    height, width = plan.size
    larger = (height + 32 * ("height" in plan.dynamic), width + 64 * ("width" in plan.dynamic))
    return [*pictures(larger, batch + ("batch" in plan.dynamic))][:1] if plan.dynamic else []


def table_of(output: Path) -> Path:
    """Where the sensitivity table of a file in 8 bits is."""
    return output.with_name(f"{output.name}.sensitivity.json")


def megabytes(folder: Path) -> float:
    """The size of all files in a folder."""
    return sum(part.stat().st_size for part in folder.rglob("*") if part.is_file()) / 1e6


def place(folder: Path, output: Path) -> None:
    """Move what lies in a folder beside the output."""
    for part in sorted(folder.iterdir()):
        _replace(part, output.with_name(part.name))


def check(parity: Parity, output: Path) -> None:
    """Raise ExportError where a file's numbers are not those of the network."""
    if not parity.largest <= TOLERANCE or parity.worst_agreement < SAME:
        values = (
            f"its outputs differ from the network's by {parity.largest:.1e} of their largest value"
            f" ({TOLERANCE:.0e} is allowed); "
        )
        raise ExportError(
            f"{output} is not written: {values if parity.differences else ''}{parity.worst_agreement:.1%} of the"
            f" predictions agree with the network's ({SAME:.0%} is needed)"
        )


def _replace(part: Path, target: Path) -> None:
    if (target / "Manifest.json").is_file():  # a package of Core ML from before
        shutil.rmtree(target)
    os.replace(part, target)


def as_batches(images: Sequence[np.ndarray], batch: int) -> list[Float[Tensor, "B 3 H W"]]:
    """Pictures (uint8 ``[H, W, 3]``, all of one size) as networks take them."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)
    return list(stacked.split(batch))
