"""The door for text files: whole content, within limits, without taking more memory than the file needs."""

import tracemalloc
from pathlib import Path

import pytest

from mbvision.errors import AnnotationError
from mbvision.files import read_bytes


def test_reading_reserves_the_size_of_the_file_and_not_that_of_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_bytes(b"1" * 45_000)
    tracemalloc.start()
    content = read_bytes(path, max_bytes=2**31)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content == path.read_bytes() and peak < 2**22


def test_files_without_a_size_are_read_to_their_end_or_to_the_limit() -> None:
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("no /proc here")
    assert status.stat().st_size == 0 and b"VmPeak" in read_bytes(status)
    with pytest.raises(AnnotationError, match="above the limit of 9 bytes"):
        read_bytes(status, max_bytes=9)
