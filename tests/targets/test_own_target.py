"""A target from outside: the code of docs/add-a-target.md, put into a folder of its own, compiles and runs."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hashpress.cli.main import run
from hashpress.core.errors import TargetError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import save
from hashpress.targets.runtime import Runtime
from hashpress.targets.table import TARGETS, Target, resolve
from program import refused

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "add-a-target.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
ARCH = Arch("lenet5", 12, ImageInput((1, 16, 16), (0.3,), (0.35,)))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder on the path with the module of the page, and a model."""
    (tmp_path / "boards.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    save(untrained(ARCH, seed=1), tmp_path / "m.safetensors")
    yield tmp_path
    for name in ("boards", "broken"):
        sys.modules.pop(name, None)


def test_the_page_is_short_and_names_every_field():
    assert len(PAGE.splitlines()) <= 80
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(Target.__dataclass_fields__)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the page's target is an x86-64 processor")
def test_the_target_of_the_page_compiles_and_runs(folder, capsys):
    model, bundle = folder / "m.safetensors", folder / "b.bundle"
    arguments = ["compile", str(model), "--target", "boards:SSE", "-o", str(bundle)]
    assert run([*arguments, "--trust-code", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["target"] == {
        "name": "sse", "machine": "x86_64", "tvm": {"kind": "llvm", "mcpu": "x86-64"}, "lanes": 4, "needs": ["sse2"],
    }  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
    runtime = Runtime(bundle)
    wanted = outputs(untrained(ARCH, seed=1), pixels)
    assert runtime.verify().differing == 0
    assert np.abs(runtime.outputs(runtime.normalise(pixels)) - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_code_is_not_imported_without_trust(folder, capsys):
    line = refused(capsys, "compile", folder / "m.safetensors", "--target", "boards:SSE", "-o", folder / "b")
    assert "allow it with trust_code (--trust-code)" in line
    assert "boards" not in sys.modules
    assert not (folder / "b").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("boards:AVX", "cannot be imported: module 'boards' has no attribute 'AVX'"),
        ("nowhere:SSE", "cannot be imported: No module named 'nowhere'"),
        ("broken:X", "cannot be imported: division by zero"),
        ("json:dumps", "is a function; it must be a hashpress.Target"),
    ],
)
def test_names_that_lead_to_no_target(folder, name, words):
    (folder / "broken.py").write_text("1 / 0")
    with pytest.raises(TargetError, match=re.escape(words)):
        resolve(name, trust_code=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lanes": 0}, "from 1 to 16 lanes"),
        ({"lanes": 32}, "from 1 to 16 lanes"),
        ({"registers": 4}, "at least 6 registers"),
        ({"tvm": {"kind": "cuda"}}, "llvm or c, found 'cuda'"),
        ({"tvm": {"kind": "c"}}, "vectors=False"),
    ],
)
def test_targets_that_no_schedule_fits(changes, words):
    with pytest.raises(TargetError, match=words):
        Target(**{"name": "t", "tvm": {"kind": "llvm"}, "lanes": 4, "registers": 16, "machine": "x86_64"} | changes)


def test_values_and_lines_of_the_table_resolve():
    own = Target("t", {"kind": "llvm"}, lanes=4, registers=16, machine="x86_64")
    assert resolve(own) is own
    assert resolve(TARGETS["host"]) == resolve("host")
