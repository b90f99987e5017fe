"""The one place that compares what masks hold with what their classes say: counts, faults and remarks.

Training looks at masks spread over a split, and at all of it only where those hold too few classes; ``evaluate
predictions=`` counts every file that it scores.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from mbvision.data.file_listing import shown
from mbvision.data.mask_colours import Colour, colours_without_table, has_order_of, is_reordered, used_colours
from mbvision.data.mask_pixels import file_palette, read_mask_pixels
from mbvision.data.masks import MaskReader, strays_told
from mbvision.errors import DataError, MaskColourError
from mbvision.structures import IGNORE, MaskScheme

SAMPLE = 100
"""Masks of a split that are looked at before training: about 2 CPU seconds of Cityscapes, the largest of the usual."""


class MaskCensus:
    """What the masks of one set hold: ``pixels`` by label (255 is ignored), over ``seen`` of its ``total`` masks."""

    def __init__(self, scheme: MaskScheme, total: int) -> None:
        self.scheme, self.total = scheme, total
        self.seen = self.ignored_whole = 0
        self.pixels: Int[np.ndarray, "256"] = np.zeros(256, dtype=np.int64)
        self.strays: Counter[int] = Counter()
        self._reordered: list[Path] = []
        self._colours_of: defaultdict[int, dict[Colour, Path]] = defaultdict(dict)

    def add(self, labels: UInt8[np.ndarray, "H W"], path: Path | None) -> None:
        """Count one mask, whose file is ``path`` where it has one."""
        self.add_counts(np.bincount(labels.reshape(-1), minlength=256))
        palette = None if path is None or path.suffix == ".mat" else file_palette(path)
        if path is None or palette is None or has_order_of(palette, self.scheme):
            return  # most files: no second decoding
        values = read_mask_pixels(path).values
        assert values is not None, "a file with a palette holds values"
        if is_reordered(values, palette, self.scheme):
            self._reordered.append(path)
        for value, colour in used_colours(values, palette).items():
            self._colours_of[value].setdefault(colour, path)

    def add_counts(self, pixels: Int[np.ndarray, "256"]) -> None:
        """Count one mask by its numbers of pixels of each label."""
        self.seen += 1
        self.ignored_whole += int(not pixels[:IGNORE].any())
        self.pixels += pixels

    def summary(self) -> str:
        """What was looked at and counted, for the log."""
        classes = len(self.scheme.class_names)
        found = int((self.pixels[:classes] > 0).sum())
        looked_at = f"{self.seen} of {self.total} masks looked at"
        return f"{looked_at}: {found} of {classes} classes, {self._ignored():.1%} of the pixels ignored"

    def faults(self) -> list[str]:
        """What makes training and scores meaningless: fewer than two classes."""
        names = self.scheme.class_names
        present = [name for name, count in zip(names, self.pixels, strict=False) if count]
        if len(names) == 1:
            text = f"the list of classes is {names[0]!r} alone, so every network is perfect: name the background too"
        elif not present:
            text = f"no pixel of a class: all pixels of the {self.seen} masks are ignored"
        elif len(present) == 1:
            text = f"{present[0]!r} is the only class in the {self.seen} masks, so there is nothing to tell it from"
        else:
            return []
        return [text + self._if_ignored_is_meant(present)]

    def remarks(self) -> list[str]:
        """What is odd, each in one line with its counts."""
        lines = []
        names = self.scheme.class_names
        present = [name for name, count in zip(names, self.pixels, strict=False) if count]
        absent = [name for name in names if name not in present]
        if absent and self.seen == self.total and len(present) > 1:
            hint = self._if_ignored_is_meant(present)
            lines.append(f"classes in none of the {self.seen} masks: {len(absent)} ({shown(absent)}){hint}")
        if self.ignored_whole:
            lines.append(f"masks ignored as a whole: {self.ignored_whole} of {self.seen}")
        if self.strays:
            lines.append(
                f"values of no class, which count as missed: {strays_told(self.strays, self.scheme)}; classes are "
                f"stored as {shown([str(value) for value in self.scheme.stored])}"
            )
        return [*lines, *self._of_palettes()]

    def _of_palettes(self) -> list[str]:
        several = {value: colours for value, colours in self._colours_of.items() if len(colours) > 1}
        if self._reordered and self.scheme.colours_known:
            return [
                f"palettes with the classes' colours in another order: {len(self._reordered)} of {self.seen} masks, "
                f"such as {self._reordered[0]}; they are read by colour"
            ]
        remedy = "they are read by index; if the colours count, give them as palette in classes.json"
        if several:
            value, colours = min(several.items())
            (one, file), (other, other_file) = list(colours.items())[:2]
            return [f"index {value} has the colour {one} in {file} and {other} in {other_file}: {remedy}"]
        if self._reordered:
            return [
                f"palettes with the colours of Pascal VOC in another order: {len(self._reordered)} of {self.seen} "
                f"masks, such as {self._reordered[0]}: {remedy}"
            ]
        return []

    def _ignored(self) -> float:
        return float(self.pixels[IGNORE] / max(self.pixels.sum(), 1))

    def _if_ignored_is_meant(self, present: Iterable[str]) -> str:
        """A hint where ignored pixels may be meant for a class that is nowhere."""
        absent = [label for label, name in enumerate(self.scheme.class_names) if name not in present]
        if not self.pixels[IGNORE] or self.strays:
            return ""
        values = ", ".join(str(value) for value in self.scheme.ignored)
        text = f"; {self._ignored():.1%} of the pixels are ignored (stored as {values})"
        if absent:
            label = absent[0]
            text += f": if they are {self.scheme.class_names[label]!r}, store {self.scheme.stored[label]} there"
        return text


def take_census(reader: MaskReader, source: str) -> MaskCensus:
    """Look at masks spread over a reader, and at the others until two classes are found.

    Masks that cannot be read are left to the policy on bad items. Raises the ``DataError`` of the first where none can
    be; of masks in unknown colours one ``MaskColourError`` with the colours of all that were looked at.
    """
    total = len(reader)
    census = MaskCensus(reader.annotations.scheme, total)
    first = np.unique(np.linspace(0, total - 1, min(SAMPLE, total)).round().astype(np.int64)).tolist()
    errors: list[DataError] = []
    for place in first:
        _count(census, reader, place, errors)
    if not census.seen and errors:
        raise _common(errors, source, reader.annotations.scheme)
    for place in sorted(set(range(total)) - set(first)):
        if not census.faults():
            break
        _count(census, reader, place, errors)
    return census


def _count(census: MaskCensus, reader: MaskReader, place: int, errors: list[DataError]) -> None:
    try:
        census.add(reader.mask(place), reader.mask_path(place))
    except DataError as error:
        errors.append(error)


def _common(errors: list[DataError], source: str, scheme: MaskScheme) -> DataError:
    colours: Counter[Colour] = Counter()
    for error in errors:
        if not isinstance(error, MaskColourError) or scheme.colours_known:
            return errors[0]
        colours.update(error.colours)
    message = colours_without_table(f"{source} ({len(errors)} masks)", dict(colours.most_common()), scheme.class_names)
    return MaskColourError(message, colours)
