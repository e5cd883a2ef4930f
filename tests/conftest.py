"""Threads are bounded before anything starts them; real data sets come from ``HASHPRESS_DATA``."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from pathlib import Path

import pytest

pytest.register_assert_rewrite("program")

from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import untrained
from hashpress.modelfile.file import save


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("HASHPRESS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HASHPRESS_DATA names no folder with the real data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory) -> Path:
    """An untrained LeNet-300-100 for 8x8 images with 16 bits, as a model file."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    arch = Arch("lenet300", 16, ImageInput((1, 8, 8), (0.3,), (0.4,)))
    save(untrained(arch, seed=0), path)
    return path
