"""From a checkpoint to a file that computes in 8 bits, but for the layers that this would hurt."""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mbvision.deploy.export import Exported, Pictures, Plan, megabytes, other_shape, place, prepare, table_of
from mbvision.deploy.exported import Eager
from mbvision.deploy.formats import FORMATS
from mbvision.deploy.parity import LIKE_BOX, compare
from mbvision.deploy.runtime import Runtime, require
from mbvision.deploy.sensitivity import LayerNoise, quantisable, sensitivity, stay_float
from mbvision.deploy.wrap import Masks
from mbvision.errors import ConfigError, nearest
from mbvision.writing import temporary_folder, writing

Calibration = Callable[[tuple[int, int], dict[str, Any]], Sequence[Float[Tensor, "1 3 H W"]]]


class Quantized(NamedTuple):
    """A file in 8 bits beside the network, and beside the float file of the same format, open while it is judged.

    ``table`` is in the file of `table_of`; ``kept`` are the layers that stayed in float.
    """

    exported: Exported
    float_runtime: Runtime
    float_megabytes: float
    table: list[LayerNoise]
    kept: list[str]


def export_int8(
    source: Path,
    output: Path,
    *,
    format: str,
    calibration: Calibration,
    pictures: Pictures,
    judge: Callable[[Quantized], None],
    keep_float: Sequence[str] | None = None,
    nms: bool = False,
    masks: Masks = "labels",
    input_size: tuple[int, int] | None = None,
    batch: int = 1,
    dynamic: Sequence[str] | None = None,
) -> Exported:
    """As `mbvision.deploy.export.export`, in 8 bits; the numbers cannot be the network's.

    ``calibration`` gives pictures in 0..1 for an input size and a checkpoint's description: they say which ranges 8
    bits have to span. ``keep_float`` are names of layers, by default those that `stay_float` picks. ``judge`` may
    refuse the file by raising: then none is left. Its table of `sensitivity` goes where `table_of` says.
    """
    if format in FORMATS and FORMATS[format].quantize is None:
        able = ", ".join(name for name, one in FORMATS.items() if one.quantize)
        raise ConfigError(f"quantize=int8: format={format} has none; choose {able}")
    plan = prepare(
        source, output, format=format, nms=nms, masks=masks, input_size=input_size, batch=batch, dynamic=dynamic
    )
    if format == "openvino" and nms and {"height", "width"} & set(plan.dynamic):
        raise ConfigError(
            "quantize=int8: OpenVINO cannot compile nms=true in 8 bits for any height and width; leave one of them out"
        )
    for package in plan.format.quantize_packages:
        require(package, f"quantize=int8 for format={format}")
    layers = list(quantisable(plan.network.network))
    check_names(keep_float or [], layers)
    samples = calibration(plan.size, plan.about)
    table = sensitivity(plan.network.network, samples)
    kept = stay_float(table) if keep_float is None else list(keep_float)
    if set(kept) >= set(layers):
        raise ConfigError("quantize=int8: no layer is left to be in 8 bits; shorten keep_float=, or leave both out")
    with (
        writing(output),
        temporary_folder(output) as folder,
        TemporaryDirectory(prefix="mbvision-") as floats,
    ):
        before = Path(floats) / output.name
        plan.format.write(plan.network, plan.example, before, dynamic=plan.dynamic, metadata=plan.metadata)
        float_size = megabytes(Path(floats))
        write(plan, before, folder / output.name, samples, kept)
        size = megabytes(folder)
        text = json.dumps(as_plain(table, kept), indent=2) + "\n"
        table_of(folder / output.name).write_text(text, encoding="utf-8")
        assert plan.format.runtime is not None
        runtime = plan.format.runtime(folder / output.name)
        shown = pictures(plan.size, batch)
        seen = [*shown, *other_shape(plan, pictures, batch)]
        parity = compare(plan.network, runtime, seen, same_box=LIKE_BOX, same_score=None)
        eager = Eager(plan.network, plan.metadata)
        done = Exported(output, plan.network.output_names, eager, shown, runtime, parity, size)
        judge(Quantized(done, plan.format.runtime(before), float_size, table, kept))
        place(folder, output)
    return done


def write(plan: Plan, before: Path, path: Path, samples: Sequence[Tensor], kept: Collection[str]) -> None:
    """The file in 8 bits from its float one."""
    assert plan.format.quantize is not None
    batch = 1 if "batch" in plan.dynamic else len(plan.example)
    plan.format.quantize(
        plan.network,
        before,
        path,
        pictures=in_batches(samples, batch),
        keep_float=frozenset(kept),
        metadata=plan.metadata,
    )


def check_names(names: Sequence[str], layers: Sequence[str]) -> None:
    """Raise ConfigError for a name that no layer has."""
    if unknown := [name for name in names if name not in layers]:
        raise ConfigError(
            f"keep_float: there is no layer {unknown[0]}{nearest(unknown[0], layers)}; the table of an export names all"
        )


def as_plain(table: Sequence[LayerNoise], kept: Collection[str]) -> list[dict[str, Any]]:
    """The table for JSON; a layer which changes nothing has null decibels."""
    return [
        {
            "layer": row.layer,
            "decibels": {head: value if value < float("inf") else None for head, value in row.decibels.items()},
            "weights": row.weights,
            "float": row.layer in kept,
        }
        for row in table
    ]


def in_batches(samples: Sequence[Tensor], batch: int) -> list[Float[Tensor, "B 3 H W"]]:
    """The samples, ``batch`` at a time; the last are left out where they are fewer, but never all."""
    few = [*samples] * -(-batch // len(samples))
    starts = range(0, len(few) - batch + 1, batch)
    return [torch.cat(few[start : start + batch]).contiguous() for start in starts]  # ExecuTorch takes no other layout
