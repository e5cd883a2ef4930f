"""Bundles on emulated ARM processors, and what those processors refuse."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import CROSS, codes_of, cross_compiler, needs_program
from hashpress.cli.main import run
from hashpress.core.errors import InputError
from hashpress.profiling.report import load_report
from hashpress.targets.devices.qemu import CPUS, PROGRAMS
from hashpress.targets.devices.table import parse_device
from hashpress.targets.table import TARGETS
from program import refused

pytestmark = [needs_program("qemu-aarch64", "qemu-user"), needs_program("qemu-arm", "qemu-user")]
PIXELS = np.random.default_rng(1).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
AUXV = """\
#include <stdio.h>
#include <sys/auxv.h>
int main(void) { return printf("%lu %lu", getauxval(AT_HWCAP), getauxval(AT_HWCAP2)) < 0; }
"""
# linux/arch/arm64/include/uapi/asm/hwcap.h and arch/arm/include/uapi/asm/hwcap.h: name -> (word, bit)
BITS = {
    "aarch64": {
        "fp": (0, 0), "asimd": (0, 1), "aes": (0, 3), "pmull": (0, 4), "sha1": (0, 5), "sha2": (0, 6), "crc32": (0, 7),
        "atomics": (0, 8), "fphp": (0, 9), "asimdhp": (0, 10), "asimdrdm": (0, 12), "fcma": (0, 14), "lrcpc": (0, 15),
        "asimddp": (0, 20), "sve": (0, 22), "i8mm": (1, 13), "bf16": (1, 14),
    },
    "armv7l": {"neon": (0, 12), "vfpv3": (0, 13), "vfpv4": (0, 16), "idiva": (0, 17), "idivt": (0, 18)},
}  # fmt: skip


@pytest.mark.parametrize("machine", PROGRAMS)
def test_codes_and_emulated_times(bundle_of, built, machine, tmp_path, capsys):
    bundle = bundle_of(built(machine), machine=machine)
    np.save(tmp_path / "p.npy", PIXELS)
    words = [str(tmp_path / "p.npy"), "-o", str(tmp_path / "c.npy"), "--device", "qemu"]
    assert run(["encode", str(bundle), *words]) == 0, capsys.readouterr().err
    assert np.array_equal(np.load(tmp_path / "c.npy"), codes_of(PIXELS))
    assert run(["profile", str(bundle), "--device", "qemu", "-o", str(tmp_path / "r.json"), "--seconds", "0"]) == 0
    report = load_report(tmp_path / "r.json")
    assert {figure.kind for name, figure in report.figures.items() if name.startswith("emulated.")} == {"emulated"}
    assert not [name for name in report.figures if name.startswith("latency.") or name == "memory.rss"]
    assert {layer.cost.kind for layer in report.layers} == {"emulated"}


@pytest.mark.parametrize(
    ("needs", "cpu", "missing"),
    [
        (TARGETS["cortex-a76"].needs, "cortex-a72", "atomics, asimdrdm, asimdhp, asimddp, lrcpc"),
        (TARGETS["armv8.2-dotprod"].needs, "cortex-a53", "atomics, asimdrdm, asimddp"),
        (TARGETS["armv8.6-i8mm"].needs, "neoverse-n1", "i8mm, bf16"),
    ],
)
def test_a_build_for_a_newer_core_is_refused_by_what_is_missing(bundle_of, built, capsys, needs, cpu, missing):
    bundle = bundle_of(built("aarch64"), needs=needs, machine="aarch64")
    line = refused(capsys, "profile", bundle, "--device", f"qemu:{cpu}")
    assert f"needs {missing}, which qemu:{cpu} ({cpu}, emulated on" in line
    parse_device("qemu").push(bundle).close()


def test_processors_of_another_width(bundle_of, built, capsys):
    bundle = bundle_of(built("aarch64"), machine="aarch64")
    line = refused(capsys, "profile", bundle, "--device", "qemu:cortex-a7")
    assert "the bundle is for aarch64, qemu:cortex-a7 runs armv7l" in line
    line = refused(capsys, "profile", bundle_of(built(), name="host.bundle"), "--device", "qemu")
    assert "is for x86_64, qemu runs aarch64 and armv7l" in line
    with pytest.raises(InputError, match=r"unknown processor 'z80' \(there are: max, cortex-a35"):
        parse_device("qemu:z80")


@pytest.fixture(scope="module")
def probes(tmp_path_factory) -> dict[str, Path]:
    """Programs that print the words in which the kernel tells a program the instruction sets."""
    folder = tmp_path_factory.mktemp("probes")
    (folder / "auxv.c").write_text(AUXV)
    for machine in CROSS:
        command = [*cross_compiler(machine), "-o", str(folder / machine), str(folder / "auxv.c")]
        subprocess.run(command, check=True, capture_output=True)
    return {machine: folder / machine for machine in CROSS}


@pytest.mark.parametrize("cpu", CPUS)
def test_the_table_says_what_the_processor_says(probes, cpu):
    machine, names = CPUS[cpu]
    done = subprocess.run(
        [PROGRAMS[machine], "-cpu", cpu, probes[machine]], capture_output=True, text=True, check=False
    )
    if "unable to find CPU" in done.stderr:
        pytest.skip(f"this qemu is too old for {cpu}")
    words = [int(word) for word in re.findall(r"\d+", done.stdout)]
    found = {name for name, (word, bit) in BITS[machine].items() if words[word] >> bit & 1}
    assert found == set(names)
