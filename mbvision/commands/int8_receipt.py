"""What a file in 8 bits costs and saves: scores before and after, by class, size and milliseconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.commands.receipt import Row, difference, evaluation, format_rows, latency, scored
from mbvision.deploy.export import Exported
from mbvision.deploy.int8 import Quantized
from mbvision.deploy.parity import LIKE_BOX
from mbvision.deploy.sensitivity import GAP, LEAST, format_sensitivity
from mbvision.errors import ExportError
from mbvision.tasks.base import Task

BY_CLASS = ("AP50", "IoU", "accuracy")
"""Of what is known of a class, the first of these is shown."""


LEAST_AGREEMENT = 0.5
"""The least share of predictions that a file in 8 bits and the network have in common, where no score is measured."""


def judge(done: Quantized, config: Mapping[str, Any], data: Sequence[str]) -> None:
    """Print the receipt.

    Raises ExportError where ``data``, overrides that name a data set, shows too large a drop, or where without any too
    few predictions are the network's.
    """
    print(format_sensitivity(done.table, done.kept))
    why = f"under {LEAST:g} dB, or {GAP:g} dB apart" if config["keep_float"] is None else "keep_float"
    print(f"in float ({why}): {', '.join(done.kept) or 'none'}")
    assert done.exported.parity is not None
    for head, share in done.exported.parity.agreement.items():
        how = f" (boxes that overlap by {LIKE_BOX:g})" if head == "detection" else ""
        print(f"same predictions as the network, {head}{how}: {share:.2%}")
    if not data:
        check_agreement(done.exported)
        print(format_rows([HEADS, *costs(done)]))
        print("what that does to the score was not measured: give data=")
        return
    settings = evaluation(config, data)
    before = scored(done.exported.eager, done.exported.path, settings)
    assert done.exported.runtime is not None
    after = scored(done.exported.runtime, done.exported.path, settings)
    print(format_rows([HEADS, *differences(before, after), *costs(done)]))
    check_drop(done, before, after, config["max_drop"])


def check_agreement(exported: Exported) -> None:
    """Raise ExportError where most predictions are others, and no score says that this does no harm."""
    assert exported.parity is not None
    if exported.parity.worst_agreement < LEAST_AGREEMENT:
        raise ExportError(
            f"{exported.path} is not written: only {exported.parity.worst_agreement:.0%} of its predictions agree with"
            f" the network's ({LEAST_AGREEMENT:.0%} is needed where no score is measured). Calibrate on more images"
            " like those of training, or let data= and max_drop= decide"
        )


HEADS = ("", "float", "int8", "difference")


def costs(done: Quantized) -> list[Row]:
    """Megabytes and milliseconds beside the float file of the same format."""
    assert done.exported.runtime is not None
    size, before = done.exported.megabytes, done.float_megabytes
    return [
        ("MB", f"{before:.2f}", f"{size:.2f}", f"{size / before:.2f}x"),
        latency(done.float_runtime, done.exported.runtime, done.exported.pictures[0].numpy()),
    ]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """The main numbers, then one of each class."""
    rows = [difference(name, value, after[name]) for name, value in before.items() if isinstance(value, float)]
    for name, known in before["per_class"].items():
        for key in [key for key in BY_CLASS if key in known][:1]:
            rows.append(difference(f"  {name} {key}", known[key], after["per_class"][name][key]))
    return rows


def main_numbers(tasks: Mapping[str, Task[Any, Any]], metrics: Mapping[str, Any]) -> list[str]:
    """The names of the numbers that a file is judged by: AP50 of a detector, else what training maximises."""
    names = ["AP50" if head == "detection" and "AP50" in metrics else task.metric for head, task in tasks.items()]
    return [name for name in names if name in metrics]


def check_drop(done: Quantized, before: Mapping[str, Any], after: Mapping[str, Any], most: float) -> None:
    """Raise ExportError where a main number fell by more than ``most`` points (hundredths)."""
    for name in main_numbers(done.exported.eager.network.tasks, before):
        points = 100 * (before[name] - after[name])
        if points > most:
            more = [*done.kept, *[row.layer for row in done.table if row.layer not in done.kept][:3]]
            raise ExportError(
                f"{Path(done.exported.path)} is not written: {name} fell by {points:.2f} points, max_drop={most:g}"
                f" allows less. Leave more layers in float, such as keep_float=[{','.join(more)}], or train on with"
                " rounding: tools/train.py quantize=int8 pretrained=CHECKPOINT"
            )
