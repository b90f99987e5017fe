"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # some tests import onnxruntime directly
torch.set_num_threads(1)  # for fixtures of modules, which come before those of tests


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums depend on the number of threads; Lightning's DDP sets it for the whole process."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets, where there is one."""
    folder = os.environ.get("MBVISION_TEST_DATA")
    if not folder:
        pytest.skip("MBVISION_TEST_DATA names no folder of real data sets")
    return Path(folder)
