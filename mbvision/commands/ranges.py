"""What every number and word of a configuration may be, checked before torch is imported or a file is looked at.

What only the network can say (taps that exist, sizes that fit) its constructors check; see `mbvision.commands.checks`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mbvision.errors import ConfigError, nearest

MANY = 10**9
"""Above any count of steps, pictures or pixels that a run has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers from ``low`` to ``high``; ``above`` leaves ``low`` out, ``below`` leaves ``high`` out."""

    low: float
    high: float = MANY
    whole: bool = False
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        over = value > self.low if self.above else value >= self.low
        return -math.inf < value < math.inf and over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        if self.high >= MANY:
            return f"{kind} {low} up"
        if not self.above and not self.below:
            return f"{kind} in {self.low:g}..{self.high:g}"
        return f"{kind} {low} to {'below ' if self.below else ''}{self.high:g}"


SHARE = Range(low=0, high=1)
SOME_SHARE = Range(low=0, high=1, above=True)
UNDER_ONE = Range(low=0, high=1, below=True)
COUNT = Range(low=1, whole=True)
COUNT_OR_NONE = Range(low=0, whole=True)
WEIGHT = Range(low=0)
SCALE = Range(low=0, high=100, above=True)
CHANNELS = Range(low=1, high=65536, whole=True)

NUMBERS: Mapping[str, Range] = {
    r"(calibration_)?seed": Range(low=0, high=2**32 - 1, whole=True),
    r"threads": Range(low=1, high=4096, whole=True),
    r"(transform\.evaluate\.)?crop_fraction": SOME_SHARE,
    r"normalize\.mean": Range(low=-10, high=10),
    r"normalize\.std": Range(low=0, high=10, above=True),
    r"loader\.batch_size|batch|batches": Range(low=1, high=65536, whole=True),
    r"loader\.total_batch_size": Range(low=1, high=2**20, whole=True),
    r"loader\.workers": Range(low=0, high=4096, whole=True),
    r"distill_weight": WEIGHT,
    r"distill_temperature": Range(low=0, high=1000, above=True),
    r"ema_decay": UNDER_ONE,
    r"(ema|checkpoint)_every_n_steps": COUNT,
    r"max_nan_steps|early_stopping": COUNT_OR_NONE,
    r"(backbone|heads\.\w+)\.width": SCALE,
    r"(backbone|heads\.\w+)\.norm_eps": Range(low=0, high=1, above=True),
    r"(backbone|heads\.\w+)\.norm_momentum": SHARE,
    r"backbone\.channel_divisor": Range(low=1, high=1024, whole=True),
    r"(backbone|heads\.\w+)\.hidden|heads\.\w+\.(filters|size|extra_channels)": CHANNELS,
    r"heads\.\w+\.rates": Range(low=1, high=1000, whole=True),
    r"heads\.\w+\.class_bias": Range(low=-100, high=100),
    r"heads\.\w+\.dropout": UNDER_ONE,
    r"heads\.\w+\.anchors\.(min_scale|max_scale)": SCALE,
    r"heads\.\w+\.anchors\.aspect_ratios": SCALE,
    r"tasks\.\w+\.weight|tasks\.\w+\.loss\.(box|auxiliary)_weight": WEIGHT,
    r"tasks\.\w+\.(score|nms)_threshold": SHARE,
    r"tasks\.\w+\.max_(candidates|detections|detections_per_class)": COUNT,
    r"tasks\.\w+\.loss\.iou_threshold": SOME_SHARE,
    r"tasks\.\w+\.loss\.negatives_per_positive": WEIGHT,
    r"tasks\.\w+\.loss\.(min_negatives|ohem_min_kept)": COUNT_OR_NONE,
    r"tasks\.\w+\.loss\.(alpha|ohem_threshold)": SHARE,
    r"tasks\.\w+\.loss\.gamma": Range(low=0, high=100),
    r"tasks\.\w+\.loss\.class_weights": WEIGHT,
    r"tasks\.\w+\.loss\.label_smoothing": UNDER_ONE,
    r"tasks\.\w+\.loss\.scale": Range(low=0, high=10_000, above=True),
    r"tasks\.\w+\.loss\.margin": Range(low=0, high=2),
    r"transform\.train\.(zoom_out|flip|erase|shift)": SHARE,
    r"transform\.train\.(min_side|min_area)": SOME_SHARE,
    r"transform\.train\.(max_side|min_scale|max_scale)": SCALE,
    r"transform\.train\.(max_zoom|max_ratio)": Range(low=1, high=100),
    r"transform\.train\.magnitude": Range(low=0, high=30, whole=True),
    r"transform\.mix\.(mixup|cutmix)": Range(low=0, high=1000),
    r"data\.max_bad_fraction": SHARE,
    r"data\.max_pixels": Range(low=1, high=MANY, whole=True),
    r"data\.readers\.\w+\.margin": SCALE,
    r"data\.readers\.\w+\.min_side": COUNT,
    r"data\.readers\.\w+\.min_area": Range(low=0),
    r"data\.readers\.\w+\.void": Range(low=0, high=255, whole=True),
    r"optimizer\.lr": Range(low=0, high=math.inf, above=True),
    r"optimizer\.eps": Range(low=0, high=math.inf),
    r"optimizer\.(momentum|betas)": UNDER_ONE,
    r"optimizer\.alpha": SHARE,
    r"optimizer\.weight_decay": WEIGHT,
    r"schedule\.warmup_steps": COUNT_OR_NONE,
    r"schedule\.(warmup_factor|final_factor|milestones)": SHARE,
    r"schedule\.gamma": SOME_SHARE,
    r"schedule\.every_steps": COUNT,
    r"schedule\.power": SCALE,
    r"trainer\.max_(epochs|steps)": Range(low=-1, whole=True),
    r"trainer\.num_nodes": COUNT,
    r"trainer\.gradient_clip_val": WEIGHT,
    r"trainer\.(accumulate_grad_batches|log_every_n_steps|check_val_every_n_epoch)": COUNT,
    r"trainer\.(limit_train_batches|limit_val_batches|overfit_batches)": Range(low=0),
    r"trainer\.num_sanity_val_steps": Range(low=-1, whole=True),
    r"published_classes\.\w+|num_classes": COUNT,
    r"value_bytes": Range(low=1, high=16, whole=True),
    r"widths|scales": SCALE,
    r"iou": SOME_SHARE,
    r"samples": COUNT_OR_NONE,
    r"rounds|limit": COUNT,
    r"calibration_pictures": COUNT,
    r"max_drop": Range(low=0, high=100),
    r"score_threshold": SHARE,
    r"smoothing": UNDER_ONE,
}
"""By full key; of a list each entry. Null is allowed where it is the default, or `compose` lists the key."""

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Weights stay float32: with half of the bits their running statistics and averages stand still."""

WORDS: Mapping[str, tuple[object, ...]] = {
    r"freeze": ("backbone", None),
    r"quantize": ("int8", None),
    r"class_slots": ("contiguous", "category_ids"),
    r"(transform\.(train|evaluate)\.)?fit": ("stretch", "letterbox", "native", "crop"),
    r"(backbone\.)?output_stride": (8, 16, 32),
    r"backbone\.padding": ("symmetric", "same"),
    r"tasks\.\w+\.loss\.normalizer": ("global", "process"),
    r"backbone\.reduced_tail": (False, True, "segmentation"),
    r"backbone\.(hidden_activation)|heads\.\w+\.activation": ("relu", "relu6", "hardswish"),
    r"data\.on_bad_item": ("skip", "error"),
    r"trainer\.accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    r"trainer\.strategy": ("auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_true"),
    r"trainer\.precision": (*PRECISIONS, "16", "32", "bf16", 16, 32),
    r"runtime": ("auto", "torch", "onnx", "openvino", None),
    r"precision": ("float32", "bf16"),
    r"style": ("coco", "voc"),
    r"backend": ("pycocotools", "hotcoco", None),
}
"""By full key; what there is to choose from."""


def check_values(leaves: Mapping[str, Any], nullable: set[str], source: Callable[[str, Any], str]) -> None:
    """Raise `ConfigError` for the first of a configuration's values, by full key, that makes no sense.

    ``nullable`` are the keys that may be null; ``source`` gives the file that a value comes from, for the message.
    """
    for key, value in leaves.items():
        if isinstance(value, dict) or (value is None and key in nullable):
            continue
        if (wanted := find(NUMBERS, key)) is not None:
            entries = value if isinstance(value, list) else [value]
            if wrong := [entry for entry in entries if entry not in wanted]:
                raise ConfigError(f"{source(key, value)}{key}={_shown(value)}: give {wanted}{_entry(value, wrong[0])}")
        elif (words := find(WORDS, key)) is not None and not any(type(value) is type(w) and value == w for w in words):
            choices = list(dict.fromkeys(_shown(word) for word in words))
            hint = nearest(str(value), choices) or ":"
            raise ConfigError(f"{source(key, value)}{key}={_shown(value)}{hint} choose {', '.join(choices)}")


def find(table: Mapping[str, Any], key: str) -> Any:
    """What a table says of a key, None where it says nothing."""
    return next((found for pattern, found in table.items() if re.fullmatch(pattern, key)), None)


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):  # as YAML and the command line write them
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)[:100]


def _entry(value: object, wrong: object) -> str:
    return f"; {_shown(wrong)} is none" if isinstance(value, list) else ""
