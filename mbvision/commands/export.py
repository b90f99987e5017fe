"""``export``: a checkpoint as a file for another runtime, compared with it, or its weights alone."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.commands.compose import compose_config, wants_help
from mbvision.commands.threads import computing_on
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError

HELP = """\
Export a checkpoint: python tools/export.py checkpoint=best.ckpt format=onnx output=model.onnx

  checkpoint=PATH         a checkpoint of train
  output=FILE             what is written; its suffix says the format where format= does not
  format=onnx             .onnx, for ONNX Runtime and many others
  format=openvino         .xml and .bin
  format=executorch       .pte, for phones
  format=coreml           .mlpackage, for Apple's devices; it can be written anywhere, but runs on macOS alone
  format=torch_export     .pt2, for torch.export.load
  format=litert           .tflite: not from here; the message says how
  nms=true                detections are selected in the file (onnx, openvino, torch_export), at most max_detections
  masks=logits            a segmenter's logits, not labels of the input's pixels
  input_size=320          or [height,width]; default: the checkpoint's
  dynamic=[batch]         what of the input is not fixed: batch, height, width (onnx, openvino, torch_export), or []
  batch=1                 images at a time, where that is fixed
  threads=4               of the processor, to compare and to score; default: one a core
  data=coco               also score network and file on data.root=FOLDER, split=NAME (default data.val_split)

  quantize=int8           in 8 bits (onnx, openvino, executorch); OUTPUT.sensitivity.json says what that does, by layer
  calibration=FOLDER      training pictures, or a glob; default: the training split of data=
  calibration_pictures=256   so many of them          calibration_seed=0   which
  keep_float=[LAYER]      layers that stay in float; default: those that alone make too much noise
  max_drop=1.0            points that the score on data= may lose; else no file is left

  format=safetensors      .safetensors: the weights alone (the averaged ones), with classes and settings in the metadata
  format=torchvision      a state dict for torchvision's model of the same network; what builds it there is printed
  format=timm             the same for timm's; pretrained=FILE and backbone.weights=FILE read all three

The file is run at once and compared with the network; in float one that differs is not left behind, in 8 bits one that
loses more than max_drop on data=.
In Python: model = mbvision.load("model.onnx"); result = model.predict("picture.jpg")"""

WEIGHTS = ("safetensors", "torchvision", "timm")
GRAPH = ("nms", "masks", "input_size", "dynamic", "batch")
INT8 = ("calibration", "calibration_pictures", "calibration_seed", "keep_float", "max_drop")
SCORED = ("split", "max_drop")


def main(arguments: Sequence[str]) -> int:
    """Write the file."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    config = compose_config("export", arguments)
    from mbvision.deploy.formats import FORMATS  # slow to import
    from mbvision.deploy.runtime import require

    source, output = Path(config["checkpoint"]), Path(config["output"])
    suffixes = {one.suffix: name for name, one in FORMATS.items()} | {".tflite": "litert", ".safetensors": WEIGHTS[0]}
    name = config["format"] or suffixes.get(output.suffix.lower())
    if name is None:
        raise ConfigError(f"output={output}: give format=, or a file that ends in {', '.join(suffixes)}")
    if name not in (*WEIGHTS, *FORMATS, "litert"):
        raise ConfigError(f"format={name}: choose {', '.join((*FORMATS, *WEIGHTS))}")
    if config["quantize"] and name in WEIGHTS:
        raise ConfigError(f"quantize=int8: format={name} has none; choose onnx, openvino, executorch")
    if output.exists() and output.samefile(source):
        raise ConfigError(f"output={output} is the checkpoint itself; give another file")
    refuse_unused({one.partition("=")[0].partition(".")[0] for one in arguments}, name, int8=bool(config["quantize"]))
    if name in FORMATS:
        packages = (*FORMATS[name].packages, *(FORMATS[name].quantize_packages if config["quantize"] else ()))
        for package in packages:
            require(package, f"format={name}")
    data = [one for one in arguments if one.startswith(("data=", "data."))]
    with computing_on(config["threads"]):
        if name in WEIGHTS:
            write_weights(source, output, name)
        elif config["quantize"]:
            write_int8(config, name, data)
        else:
            write_network(config, name, data)
    return 0


def refuse_unused(given: Collection[str], name: str, *, int8: bool) -> None:
    """Raise ConfigError for a key (of ``data.root`` the first word) that was given and would do nothing."""
    without: list[tuple[bool, Sequence[str], str]] = [
        (name in WEIGHTS, (*GRAPH, "data", "threads"), f"format={name} writes the weights alone"),
        (name == "coreml", ("data",), "format=coreml runs on macOS alone, and is not scored"),
        (not int8, INT8, "goes with quantize=int8"),
        ("data" not in given, SCORED, "goes with data=, on which network and file are scored"),
    ]
    for unused, keys, why in without:
        if unused and (idle := [key for key in keys if key in given]):
            raise ConfigError(f"{idle[0]}= does nothing here: {why}")


def write_weights(source: Path, output: Path, name: str) -> None:
    """The weights alone."""
    from mbvision.checkpoint import export_safetensors
    from mbvision.weights import export_weights

    usage = None
    if name == "safetensors":
        export_safetensors(source, output)
    else:
        usage = export_weights(source, output, "timm" if name == "timm" else "torchvision")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    if usage:
        print(usage)


def write_network(config: Mapping[str, Any], name: str, data: Sequence[str]) -> None:
    """The network; with ``data``, overrides that name a data set, both are scored on it."""
    from mbvision.build import input_size
    from mbvision.commands.receipt import receipt
    from mbvision.deploy.export import export
    from mbvision.deploy.samples import sample_pictures

    source, output = Path(config["checkpoint"]), Path(config["output"])
    size = input_size(config) if config["input_size"] is not None else None
    done = export(
        source,
        output,
        format=name,
        pictures=sample_pictures,
        nms=config["nms"],
        masks=config["masks"],
        input_size=size,
        batch=config["batch"],
        dynamic=config["dynamic"],
    )
    print(f"{output}: {done.megabytes:.1f} MB, outputs {', '.join(done.outputs)}")
    if done.parity is None:
        print("checked by loading it; it runs on macOS alone, so its numbers were not compared with the network's")
        return
    for key, difference in done.parity.differences.items():
        print(f"largest difference of {key}: {difference:.1e} of its largest value")
    for head, share in done.parity.agreement.items():
        print(f"same predictions, {head}: {share:.2%}")
    if data:
        print(receipt(done, config, data))


def write_int8(config: Mapping[str, Any], name: str, data: Sequence[str]) -> None:
    """The network in 8 bits; with ``data`` it is scored before it is left under its name."""
    from mbvision.build import input_size
    from mbvision.commands.calibration import calibration
    from mbvision.commands.int8_receipt import judge
    from mbvision.deploy.int8 import export_int8
    from mbvision.deploy.samples import sample_pictures

    keep = config["keep_float"]
    if keep is not None and not (isinstance(keep, list) and all(isinstance(one, str) for one in keep)):
        raise ConfigError(f"keep_float={keep}: give a list of layers, such as [backbone.stem.conv]")
    done = export_int8(
        Path(config["checkpoint"]),
        Path(config["output"]),
        format=name,
        calibration=calibration(config, data),
        pictures=sample_pictures,
        judge=lambda found: judge(found, config, data),
        keep_float=keep,
        nms=config["nms"],
        masks=config["masks"],
        input_size=input_size(config) if config["input_size"] is not None else None,
        batch=config["batch"],
        dynamic=config["dynamic"],
    )
    print(f"{done.path}: {done.megabytes:.1f} MB, outputs {', '.join(done.outputs)}")
