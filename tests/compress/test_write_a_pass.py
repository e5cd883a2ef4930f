"""docs/write-a-pass.md as somebody else would use it: their files in a folder of their own, the commands of the page."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from code_of_page import code_of_page, commands_of_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "write-a-pass.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder after all commands of the page, each in a process of its own."""
    folder = tmp_path_factory.mktemp("outside")
    for name, code in code_of_page(PAGE).items():
        (folder / name).write_text(code, encoding="utf-8")
    program = Path(sys.executable).with_name("hashpress")
    for line in commands_of_page(PAGE):
        done = subprocess.run(
            [str(program), *shlex.split(line)], cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr}"
    return folder


def test_the_page_goes_from_training_to_codes(folder):
    assert [line.split()[0] for line in commands_of_page(PAGE)] == [
        "train",
        "compress",
        "evaluate",
        "compile",
        "encode",
    ]
    codes = np.load(folder / "codes.npy")
    assert codes.shape == (1797, 2)
    assert len(np.unique(codes, axis=0)) > 10


def test_codes_of_the_bundle_are_those_of_the_model(folder):
    code = (
        "import hashpress as hp, numpy as np\n"
        "model = hp.load('small.safetensors', trust_code=True)\n"
        "form = model.net.encoder.fc1.form\n"
        "assert type(form).__name__ == 'SignWeight' and set(form.signs.unique().tolist()) == {-1, 1}\n"
        "split = hp.load_data('digits')\n"
        "queries = hp.pack(hp.outputs(model, split.queries.pixels))\n"
        "codes = {row.tobytes() for row in np.load('codes.npy')}\n"
        "assert sum(row.tobytes() in codes for row in queries) >= len(queries) - 1\n"
        "weights = hp.load('base.safetensors').net.encoder.fc1.weight.numel()\n"
        "assert weights > 10000\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_file_is_smaller_by_the_layer_of_signs(folder):
    before, after = ((folder / name).stat().st_size for name in ("base.safetensors", "small.safetensors"))
    assert after < before - 3 * 300 * 64  # of its four bytes a sign takes less than one
