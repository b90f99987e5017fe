"""Every network in every format: whether it exports, how far its numbers are from the network's, how much agrees.

Random weights, batch norms with the statistics of drawn pictures. Formats whose input can be open are written once,
open in batch, height and width, and run on 1 and on 4 pictures of 320x320 and of 256x384. The others are written for 1
picture of 320x320, and for 4 of 256x384. Full-size networks have width 1, all others 0.35. OpenVINO's files are made
from the ONNX file where that was just written, which is what its export does too. Results are added to a JSON file
after each export, and what is in it is not done again.

    python benchmarks/exports.py
"""

import argparse
import gc
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mbvision import checkpoint
from mbvision.build import build_network
from mbvision.commands.compose import compose_config
from mbvision.deploy import openvino
from mbvision.deploy.export import Exported, export
from mbvision.deploy.formats import AXES, FORMATS
from mbvision.deploy.parity import compare
from mbvision.deploy.samples import sample_pictures
from mbvision.errors import ConfigError
from mbvision.writing import replacing

BACKBONES = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small_minimalistic",
)
SMALL = ("backbone=mobilenet_v3_small", "backbone.width=0.35")
LARGE = ("backbone=mobilenet_v3_large", "backbone.width=1.0")
TORCHVISION = ("backbone.dilation_rule=torchvision",)
NETWORKS: Mapping[str, tuple[str, ...]] = {
    **{f"SSDLite, {name}": ("task=ssdlite", f"backbone={name}", "backbone.width=0.35") for name in BACKBONES},
    "SSDLite of torchvision": ("task=ssdlite_torchvision", *SMALL),
    "SSDLite of TensorFlow": ("task=ssdlite_tensorflow", *SMALL),
    "SSD": ("task=ssd", *SMALL),
    "SSDLite, selection in the file": ("task=ssdlite", *SMALL, "nms"),
    "LR-ASPP": ("task=lraspp", *SMALL),
    "LR-ASPP, labels": ("task=lraspp", *SMALL, "labels"),
    "LR-ASPP, output stride 16": ("task=lraspp", *SMALL, "output_stride=16"),
    "LR-ASPP of torchvision": ("task=lraspp_torchvision", *SMALL, "output_stride=16", *TORCHVISION),
    "LR-ASPP of TensorFlow": ("task=lraspp_tensorflow", *SMALL, "backbone.padding=same"),
    "DeepLabv3": ("task=deeplabv3", *SMALL, "output_stride=16"),
    "DeepLabv3 with ASPP": ("task=deeplabv3_aspp", *SMALL, "output_stride=16"),
    "DeepLabv3 of torchvision": ("task=deeplabv3_torchvision", *SMALL, "output_stride=16", *TORCHVISION),
    "SSDLite and LR-ASPP": ("task=[ssdlite,lraspp]", *SMALL),
    "classification": ("task=classification", *SMALL),
    "attributes and embedding": ("task=[attributes,embedding]", *SMALL),
    "full size: SSDLite": ("task=ssdlite_torchvision", *LARGE, *TORCHVISION, "backbone.reduced_tail=true"),
    "full size: LR-ASPP": ("task=lraspp_torchvision", *LARGE, *TORCHVISION, "output_stride=16"),
    "full size: DeepLabv3 with ASPP": ("task=deeplabv3_aspp", *LARGE, "output_stride=16"),
    "full size: SSDLite and LR-ASPP": ("task=[ssdlite,lraspp]", *LARGE),
    "full size: classification": ("task=classification", *LARGE),
}
"""Overrides of ``train``; ``nms`` and ``labels`` are forms of the file."""
CLASSES = {"detection": 90, "segmentation": 21, "classification": 1000, "attributes": 40, "embedding": 8}
SHAPES = ((1, (320, 320)), (4, (320, 320)), (1, (256, 384)), (4, (256, 384)))
REASONS = {
    "litert": "its converter needs torch below 2.15, an environment of its own",
    "coreml": "written and loaded; Core ML runs on macOS alone",
}
ORDER = ("onnx", "openvino", "torch_export", "executorch", "coreml")
RESULTS = Path(__file__).parent / "results"


def write_checkpoint(path: Path, overrides: Sequence[str]) -> Path:
    """A network with seeded weights, whose norms know the pictures: scores that are all alike would tell nothing."""
    torch.manual_seed(0)
    config = compose_config("train", overrides)
    network = build_network(config, {head: CLASSES[head] for head in config["heads"]})
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean of what it sees
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    with torch.no_grad():
        network.train()(torch.cat(list(sample_pictures((320, 320), 4))))
    names = {head: [f"{head} {label}" for label in range(CLASSES[head])] for head in config["heads"]}
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    checkpoint.write(path, {"state_dict": state, "mbvision": checkpoint.description(config, names)})
    return path


def try_format(source: Path, folder: Path, format: str, words: Sequence[str], shapes: Sequence[Any]) -> dict[str, Any]:
    """The shapes that agree, with their differences; or the reason why there is no such file."""
    chosen = FORMATS[format]
    if missing := [one for one in chosen.packages if find_spec(one) is None]:
        return {"reason": f"{missing[0]} is not installed"}
    write = partial(
        export,
        source,
        folder / f"network{chosen.suffix}",
        format=format,
        pictures=sample_pictures,
        nms="nms" in words,
        masks="labels" if "labels" in words else "logits",
    )
    rows = []
    try:
        if chosen.dynamic:
            done = write(input_size=shapes[0][1], dynamic=AXES)
            rows = [_row(done, batch, size) for batch, size in shapes]
        else:
            for batch, size in (shapes[0], shapes[-1]):
                rows.append(_row(write(input_size=size, batch=batch, dynamic=[]), batch, size))
    except ConfigError as error:
        return {"reason": str(error)}
    except Exception as error:  # exporters raise all kinds; the table says which
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    return {"rows": rows}


def _row(done: Exported, batch: int, size: tuple[int, int]) -> dict[str, Any]:
    shape = f"{batch}x{size[0]}x{size[1]}"
    if done.runtime is None:
        return {"shape": shape}
    parity = compare(done.eager.network, done.runtime, sample_pictures(size, batch))
    return {
        "shape": shape,
        "differences": parity.differences,
        "agreement": parity.agreement,
        "megabytes": done.megabytes,
    }


def table(results: Mapping[str, Mapping[str, Any]], formats: Sequence[str]) -> str:
    """Markdown: of each network and format the largest difference and the least agreement over all shapes."""
    notes: list[str] = []
    lines = [f"| network | {' | '.join(formats)} |", "|" + "---|" * (len(formats) + 1)]
    for network in NETWORKS:
        cells = [_cell(results.get(network, {}).get(name), notes) for name in formats]
        lines.append(f"| {network} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""])


def _cell(found: Mapping[str, Any] | None, notes: list[str]) -> str:
    if found is None:
        return "not run"
    if "rows" not in found or not all("agreement" in row for row in found["rows"]):
        note = found.get("failed") or found.get("reason") or REASONS["coreml"]
        if note not in notes:
            notes.append(note)
        kind = "**fails**" if "failed" in found else "no" if "reason" in found else "written"
        return f"{kind} ({notes.index(note) + 1})"
    apart = [value for row in found["rows"] for value in row["differences"].values()]
    same = min(value for row in found["rows"] for value in row["agreement"].values())
    return f"{f'{max(apart):.0e}' if apart else '-'}, {100 * same:.2f} %"


def main(argv: Sequence[str] | None = None) -> None:
    """Do what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--formats", nargs="+", default=ORDER, choices=ORDER)
    parser.add_argument("--only", default="", help="networks whose names hold this")
    parser.add_argument("--output", type=Path, default=RESULTS / "exports.json", metavar="FILE.json")
    parser.add_argument("--quick", action="store_true", help="two networks on 64x64: shows that it runs")
    given = parser.parse_args(argv)
    shapes = ((1, (64, 64)), (2, (64, 96))) if given.quick else SHAPES
    names = [name for name in NETWORKS if given.only in name]
    names = ["SSDLite, mobilenet_v3_small", "LR-ASPP"] if given.quick else names
    results: dict[str, dict[str, Any]] = (
        json.loads(given.output.read_text(encoding="utf-8")) if given.output.exists() else {}
    )
    for name in names:
        missing = [one for one in given.formats if one not in results.get(name, {})]
        for format, found in _try(name, missing, shapes):
            print(f"{name}, {format}: {found}", flush=True)
            results.setdefault(name, {})[format] = found
            _write(given.output, json.dumps(results, indent=1) + "\n")
    text = f"{_head(__doc__ or '')}\n\n{table(results, ORDER)}\nlitert: {REASONS['litert']}.\n"
    _write(given.output.with_suffix(".md"), text)


def _try(name: str, formats: Sequence[str], shapes: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    words = NETWORKS[name]
    overrides = [word for word in words if "=" in word]
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own
        folder = Path(place)
        source = write_checkpoint(folder / "network.ckpt", overrides) if formats else folder
        for format in formats:
            with _converted(folder / "network.onnx"):
                yield format, try_format(source, folder, format, words, shapes)
            gc.collect()  # graphs hold one another, and the next one is as large


@contextmanager
def _converted(through: Path) -> Iterator[None]:
    """OpenVINO's export without writing the ONNX file that it begins with once more, where there is one."""
    usual = FORMATS["openvino"]

    def write(_: object, __: object, path: Path, *, metadata: Mapping[str, str], **___: object) -> None:
        openvino.convert(through, path, metadata)

    if through.exists():
        FORMATS["openvino"] = usual._replace(write=write)
    try:
        yield
    finally:
        FORMATS["openvino"] = usual


def _head(text: str) -> str:
    return f"# Exports\n\n{text.strip().rpartition(chr(10) + chr(10))[0]}\n\nMade by `python benchmarks/exports.py`."


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
