"""The instructions in libraries for x86-64, as a disassembler sees them, are those that the target says it needs."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hashpress.targets import table
from hashpress.targets.codegen.codegen import generate_library
from hashpress.targets.codegen.plan import plan
from hashpress.targets.codegen.program import generate
from hashpress.targets.graph.export import export
from hashpress.targets.graph.fuse import fuse
from hashpress.targets.graph.import_relax import import_relax
from torch import nn

NET = nn.Sequential(nn.Conv2d(3, 20, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(180, 16), nn.Sigmoid())
OTHER = r"v?(pdp|dpbf16|gf2p8|aes|pclmul|pmadd52|popcnt[bwdq]|permi?2?b|pshufbitqm|pcompress[bw]|pexpand[bw])\w*|tile\w*|td[pc]\w*"
FP16 = r"vmovw|v\w+[ps]h|vcvt\w*(ph|sh)\w*"
BEYOND = {  # what the registers and mnemonics of a level must not be
    "x86-64-v4": (rf"\t(?!vcvtph2ps|vcvtps2ph|vperm2f128|vpermb\b)({OTHER}|{FP16})\s",),
    "x86-64-v3": (rf"\t(?!vcvtph2ps|vcvtps2ph)({OTHER}|{FP16})\s", r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]"),
    "x86-64": (r"%zmm|%ymm", r"\tv[a-z]\w+\s", r"\t(andn|bextr|bls\w+|mulx|rorx|s[ah][lr]x|pdep|pext|[lt]zcnt)\s"),
}
CPUS = {"x86-64-v4": ("sapphirerapids", "x86-64-v4"), "x86-64-v3": ("alderlake", "x86-64-v3"), "x86-64": ("x86-64",)}
CASES = [(level, cpu) for level in table.X86 for cpu in CPUS[level.name]]


@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump")
@pytest.mark.parametrize("name", ["host", "c"])
@pytest.mark.parametrize(("level", "cpu"), CASES, ids=[cpu for _, cpu in CASES])
def test_a_library_has_no_instruction_that_its_target_does_not_name(name, level, cpu, monkeypatch, tmp_path):
    if name == "c" and cpu != level.name:
        pytest.skip("C is compiled for levels")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(table, "_host_cpu", lambda _: (cpu, level))
    target = table.resolve(name)
    assert target.needs == level.needs
    lowered = plan(fuse(import_relax(export(NET.eval(), (3, 8, 8)))), target)
    generate_library(generate(lowered, target), target, tmp_path / "lib.so")
    command = ["objdump", "-d", "--no-show-raw-insn", str(tmp_path / "lib.so")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 200
    found = [line for line in lines for pattern in BEYOND[level.name] if re.search(pattern, f"{line} ")]
    assert not found, found[:5]
