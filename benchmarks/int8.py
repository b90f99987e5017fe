"""What 8 bits cost and save: three draws of calibration pictures, in each runtime, beside the float files.

    python benchmarks/int8.py CHECKPOINT data=camvid data.root=FOLDER [--formats onnx executorch] [--output FILE.md]

For each format a row: score of the network (and so of the float file, which `tools/export.py` holds to it), scores of
the files in 8 bits with ``calibration_seed`` 0, 1 and 2, the mean loss in points (hundredths), and megabytes beside the
float file. Nothing is refused. Layers stay in float by the default rule.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mbvision.commands.calibration import calibration
from mbvision.commands.compose import compose_config
from mbvision.commands.int8_receipt import main_numbers
from mbvision.commands.receipt import evaluation, scored
from mbvision.deploy.formats import FORMATS
from mbvision.deploy.int8 import Quantized, export_int8
from mbvision.deploy.samples import sample_pictures

DRAWS = (0, 1, 2)
HEADS = (
    "format",
    "score",
    "float",
    *(f"draw {seed}" for seed in DRAWS),
    "lost",
    "MB float",
    "MB int8",
    "ratio",
    "kept",
)


class Measured:
    """Scores and size of the files of one format, taken while each is open."""

    def __init__(self, settings: dict[str, Any], before: dict[str, Any]) -> None:
        self.settings, self.before = settings, before
        self.scores: list[dict[str, Any]] = []
        self.sizes: list[tuple[float, float]] = []
        self.kept: list[int] = []

    def __call__(self, done: Quantized) -> None:
        """Score the network, once for all formats, and the file."""
        assert done.exported.runtime is not None
        if not self.before:
            self.before |= scored(done.exported.eager, done.exported.path, self.settings)
            self.before["names"] = main_numbers(done.exported.eager.network.tasks, self.before)
        self.scores.append(scored(done.exported.runtime, done.exported.path, self.settings))
        self.sizes.append((done.float_megabytes, done.exported.megabytes))
        self.kept.append(len(done.kept))

    def rows(self, format: str) -> list[tuple[str, ...]]:
        """One for each main number."""
        found = []
        (before, after), kept = self.sizes[0], "/".join(map(str, self.kept))
        for name in self.before["names"]:
            values = [scores[name] for scores in self.scores]
            lost = 100 * (self.before[name] - statistics.mean(values))
            cells = [f"{value:.4f}" for value in (self.before[name], *values)]
            sizes = [f"{before:.2f}", f"{after:.2f}", f"{after / before:.2f}"]
            found.append((format, name, *cells, f"{lost:+.2f}", *sizes, kept))
        return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and add to the output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("keys", nargs="*", help="data=... and its keys, loader.workers=")
    parser.add_argument("--formats", nargs="+", default=[name for name, one in FORMATS.items() if one.quantize])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(argv)
    data = [key for key in options.keys if key.startswith(("data=", "data."))]
    other = [key for key in options.keys if key not in data]
    before: dict[str, Any] = {}
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    print("\n".join(lines), flush=True)
    for format in options.formats:
        keys = [f"checkpoint={options.checkpoint}", "output=a", "quantize=int8", *other]
        measured = Measured(evaluation(compose_config("export", keys), data), before)
        for seed in DRAWS:
            config = compose_config("export", [*keys, f"calibration_seed={seed}"])
            with tempfile.TemporaryDirectory() as folder:
                export_int8(
                    options.checkpoint,
                    Path(folder) / f"a{FORMATS[format].suffix}",
                    format=format,
                    calibration=calibration(config, data),
                    pictures=sample_pictures,
                    judge=measured,
                )
        for row in measured.rows(format):
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
    if options.output is not None:
        with options.output.open("a", encoding="utf-8") as file:
            file.write(f"\n## {options.checkpoint} {' '.join(options.keys)}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
