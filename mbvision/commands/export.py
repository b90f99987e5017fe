"""``export``: a checkpoint's weights in a format for others."""

from collections.abc import Sequence
from pathlib import Path

from mbvision.commands.compose import compose_config, wants_help
from mbvision.errors import ConfigError

HELP = """\
Export the weights of a checkpoint: python tools/export.py checkpoint=best.ckpt output=weights.safetensors

  checkpoint=PATH         a checkpoint of train
  format=safetensors      the weights alone (the averaged ones), with classes and settings in the metadata
  output=FILE             what is written; pretrained=FILE and backbone.weights=FILE read it"""


def main(arguments: Sequence[str]) -> int:
    """Write the file."""
    if wants_help(arguments):
        print(HELP)
        return 0
    config = compose_config("export", arguments)
    if config["format"] != "safetensors":
        raise ConfigError(f"format={config['format']}: choose safetensors")
    from mbvision.checkpoint import export_safetensors  # slow to import

    output = Path(config["output"])
    export_safetensors(Path(config["checkpoint"]), output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    return 0
