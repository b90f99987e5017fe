"""``export``: a checkpoint's weights in a format for others."""

from collections.abc import Sequence
from pathlib import Path

from mbvision.commands.compose import compose_config, wants_help
from mbvision.errors import ConfigError

HELP = """\
Export the weights of a checkpoint: python tools/export.py checkpoint=best.ckpt output=weights.safetensors

  checkpoint=PATH         a checkpoint of train
  format=safetensors      the weights alone (the averaged ones), with classes and settings in the metadata
  format=torchvision      a state dict for torchvision's model of the same network; what builds it there is printed
  format=timm             the same for timm's
  output=FILE             what is written: .safetensors, or any other suffix for torch.save's format;
                          pretrained=FILE and backbone.weights=FILE read it"""

FORMATS = ("safetensors", "torchvision", "timm")


def main(arguments: Sequence[str]) -> int:
    """Write the file."""
    if wants_help(arguments):
        print(HELP)
        return 0
    config = compose_config("export", arguments)
    if config["format"] not in FORMATS:
        raise ConfigError(f"format={config['format']}: choose {', '.join(FORMATS)}")
    from mbvision.checkpoint import export_safetensors  # slow to import
    from mbvision.weights import export_weights

    source, output = Path(config["checkpoint"]), Path(config["output"])
    usage = None
    if config["format"] == "safetensors":
        export_safetensors(source, output)
    else:
        usage = export_weights(source, output, config["format"])
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    if usage:
        print(usage)
    return 0
