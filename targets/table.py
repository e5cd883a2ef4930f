"""The machines hashpress compiles for: one literal table, our own and not TVM's tags, of which several are wrong.

``lanes`` and ``registers`` describe the vector register file; together with a layer's shape they decide every schedule
(see ``legalize``), so a new target is a new line here.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import TargetError, lookup


@dataclass(frozen=True)
class Target:
    """What the compiler, the linker and the schedules need to know about one kind of machine."""

    name: str
    tvm: Mapping[str, Any]  # TVM's target dict
    lanes: int  # floats in one vector register
    registers: int  # vector registers
    machine: str  # ELF machine of the library: x86_64, aarch64
    vectors: bool = True  # write vector expressions; False leaves vectorising to the C compiler
    linker: tuple[str, ...] = ("gcc", "cc", "clang")  # the first that exists links (and, for C, compiles)
    flags: tuple[str, ...] = ("-O3", "-march=native", "-ffp-contract=fast")


@dataclass(frozen=True)
class HostTarget:
    """A target whose register file is read off the machine it runs on, at the time of use."""

    name: str
    vectors: bool

    def resolve(self) -> Target:
        """Return the concrete target.

        Raises:
            TargetError: no rule for this machine's vector registers.
        """
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        if machine not in ("x86_64", "aarch64"):
            raise TargetError(f"target {self.name!r}: no schedule rule for {machine}; use an x86-64 or AArch64 machine")
        cpu, lanes, registers = _host_cpu()
        if not self.vectors:
            return Target(self.name, {"kind": "c"}, lanes, registers, machine, vectors=False)
        return Target(self.name, {"kind": "llvm", "mcpu": cpu}, lanes, registers, machine)


TARGETS: dict[str, Target | HostTarget] = {
    "host": HostTarget("host", vectors=True),
    "c": HostTarget("c", vectors=False),
}


def resolve(name: str) -> Target:
    """Return the concrete target called ``name``.

    Raises:
        TargetError: no such target.
    """
    entry = lookup(TARGETS, name, "target", TargetError)
    return entry.resolve() if isinstance(entry, HostTarget) else entry


def _host_cpu() -> tuple[str, int, int]:
    """Return LLVM's name of this processor, the floats in a vector register, and how many registers there are."""
    from tvm.target import Target as TvmTarget  # noqa: PLC0415
    from tvm.target import codegen  # noqa: PLC0415 - the table is also read where no compiler is installed

    cpu = str(codegen.llvm_get_system_cpu())
    if platform.machine().lower() in ("aarch64", "arm64"):
        return cpu, 4, 32
    flags = _flags()
    levels = (("x86-64-v4", {"avx512f", "avx512vl", "avx512bw", "avx512dq"}, 16, 32), ("x86-64-v3", {"avx2", "fma"}, 8, 16))
    for level, needs, lanes, registers in levels:
        if needs <= flags:
            known = codegen.llvm_cpu_has_features(sorted(needs), TvmTarget({"kind": "llvm", "mcpu": cpu}))
            return (cpu if known else level), lanes, registers
    return "x86-64", 4, 16


def _flags() -> frozenset[str]:
    """Return the instruction sets the kernel lets programs use: a hypervisor may hide what the processor's name says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
