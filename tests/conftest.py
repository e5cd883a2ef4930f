"""Threads are bounded before anything starts them; real data sets come from ``HASHPRESS_DATA``."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("HASHPRESS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HASHPRESS_DATA names no folder with the real data sets")
    return Path(folder)
