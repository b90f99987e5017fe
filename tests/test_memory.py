"""Freed memory is used again without a page fault, in a process of its own: the setting is for good."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from mbvision.commands.memory import keep_freed_memory
{setting}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(2**22, dtype=np.float64)  # 32 MiB: 8192 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def page_faults(setting: str) -> int:
    command = [sys.executable, "-c", COUNT.format(setting=setting)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    assert page_faults("keep_freed_memory()") * 10 < page_faults("")
