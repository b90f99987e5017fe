"""Archives with single flipped bits: whatever the bit, no file comes out with other content."""

import operator
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from mbvision.errors import DataError
from tests.faults.archives import FILES, tarred, unpacked, zipped
from tests.faults.case import Case

FLIPS = 100
"""Archives of one case, each with one bit that is not the original's."""


def flipped_archive_cases() -> Iterator[Case]:
    """Single flipped bits, 1,000 of each kind that has checksums: an error, or every file as it was."""
    for kind, data in {
        "zip": zipped(FILES, compression=zipfile.ZIP_DEFLATED),
        "tar.gz": tarred(FILES, "w:gz"),
        "tar.bz2": tarred(FILES, "w:bz2"),
        "tar.xz": tarred(FILES, "w:xz"),
    }.items():
        bits = np.random.default_rng(17).choice(8 * len(data), size=1000, replace=False)
        for number, chosen in enumerate(np.split(bits, len(bits) // FLIPS)):

            def make(folder: Path, data: bytes = data, chosen: np.ndarray = chosen) -> list[Path]:
                for bit in chosen.tolist():
                    changed = bytearray(data)
                    changed[bit // 8] ^= 1 << bit % 8
                    (folder / f"{bit}.bin").write_bytes(changed)
                return sorted(folder.iterdir())

            name = f"{FLIPS} flipped bits of a {kind}, {number + 1} of {len(bits) // FLIPS}"
            yield Case(
                kind="archive",
                name=name,
                make=make,
                use=_wrong,
                loads=operator.not_,
                quick=kind != "zip" and not number,
            )


def _wrong(paths: list[Path]) -> list[str]:
    """The archives that were unpacked to something else than their files."""
    wrong = []
    for path in paths:
        with suppress(DataError):
            if unpacked(path) != FILES:
                wrong.append(path.name)
        shutil.rmtree(path.parent.parent / "out", ignore_errors=True)
    return wrong
