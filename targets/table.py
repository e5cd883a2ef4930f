"""The machines hashpress compiles for: one literal table, our own and not TVM's tags, of which several are wrong.

``lanes`` and ``registers`` describe the vector register file; together with a layer's shape they decide every schedule
(see ``kernels``), so a new target is a new line here.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import TargetError, lookup
from ..core.plugins import import_name
from .abi import ALIGNMENT

MAX_LANES = ALIGNMENT // 4  # a vector of float32 is at most as wide as buffers are aligned
MIN_REGISTERS = 6  # two sums, two vectors of weights, a pixel and a spare one: the smallest tile of a convolution


@dataclass(frozen=True)
class Target:
    """What the compiler, the linker and the schedules need to know about one kind of machine.

    Raises:
        TargetError: a vector register file for which there is no schedule.
    """

    name: str
    tvm: Mapping[str, Any]  # TVM's target dict
    lanes: int  # floats in one vector register
    registers: int  # vector registers
    machine: str  # ELF machine of the library: x86_64, aarch64
    vectors: bool = True  # write vector expressions; False leaves vectorising to the C compiler
    linker: tuple[str, ...] = ("gcc", "cc", "clang")  # the first that is installed links (and, for C, compiles)
    flags: tuple[str, ...] = ("-O2", "-ftree-vectorize", "-march=native", "-ffp-contract=fast")
    needs: tuple[str, ...] = ()  # instruction sets, as /proc/cpuinfo calls them
    about: str = ""

    def __post_init__(self) -> None:
        kind = self.tvm.get("kind")
        if kind not in ("llvm", "c"):
            raise TargetError(f"target {self.name!r}: the kind of TVM's target is llvm or c, found {kind!r}")
        if kind == "c" and self.vectors:
            raise TargetError(f"target {self.name!r}: C has no vector expressions; write it with vectors=False")
        if not 1 <= self.lanes <= MAX_LANES:
            raise TargetError(
                f"target {self.name!r}: schedules are for from 1 to {MAX_LANES} lanes, found {self.lanes}"
            )
        if self.registers < MIN_REGISTERS:
            raise TargetError(
                f"target {self.name!r}: schedules need at least {MIN_REGISTERS} registers, found {self.registers}"
            )


@dataclass(frozen=True)
class HostTarget:
    """A target whose register file is read off the machine it runs on, at the time of use."""

    name: str
    vectors: bool
    about: str

    def resolve(self) -> Target:
        """Return the concrete target.

        Raises:
            TargetError: no rule for this machine's vector registers.
        """
        machine = host_machine()
        if machine not in ("x86_64", "aarch64"):
            raise TargetError(f"target {self.name!r}: no schedule rule for {machine}; use an x86-64 or AArch64 machine")
        cpu, level = _host_cpu(machine)
        tvm: dict[str, Any] = {"kind": "llvm", "mcpu": cpu} if self.vectors else {"kind": "c"}
        flags = Target.flags
        if machine == "x86_64":
            if self.vectors:
                tvm["mattr"] = [f"-{name}" for name in UNNEEDED]
            march = [f"-march={level.name}" if flag == "-march=native" else flag for flag in flags]
            flags = (*march, "-mtune=native")
        # sums that a C compiler shall keep in registers by itself are few
        registers = level.registers if self.vectors else 12
        return Target(
            self.name, tvm, level.lanes, registers, machine, self.vectors, flags=flags, needs=level.needs,
            about=self.about,
        )  # fmt: skip


@dataclass(frozen=True)
class Level:
    """One vector register file; ``name`` is the oldest processor that has it."""

    name: str
    lanes: int
    registers: int
    needs: tuple[str, ...] = ()  # all that compilers may use of it, as /proc/cpuinfo calls them


NEON = Level("generic", 4, 32)
NEON32 = Level("generic", 4, 16)
V3 = ("cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm",
      "movbe")  # fmt: skip
X86 = (
    Level("x86-64-v4", 16, 32, ("avx512f", "avx512vl", "avx512bw", "avx512cd", "avx512dq", *V3)),
    Level("x86-64-v3", 8, 16, V3),
    Level("x86-64", 4, 16),
)
LLVM_NAMES = {"pni": "sse3", "bmi1": "bmi", "abm": "lzcnt", "lahf_lm": "sahf", "sse4_1": "sse4.1", "sse4_2": "sse4.2"}
UNNEEDED = (  # what newer processors have beside and LLVM or a C compiler would use unasked
    "avx512fp16", "avx512bf16", "avx512vnni", "avx512vbmi", "avx512vbmi2", "avx512ifma", "avx512bitalg", "avx512vpopcntdq",
    "avx512vp2intersect", "avxvnni", "avxvnniint8", "avxvnniint16", "avxifma", "avxneconvert", "gfni", "vaes", "vpclmulqdq",
    "amx-tile", "amx-int8", "amx-bf16", "amx-fp16",
)  # fmt: skip

# instruction sets as /proc/cpuinfo calls them, of which compilers emit instructions unasked
_SSE4 = ("ssse3", "sse4_1", "sse4_2", "popcnt")
_AVX2 = (*_SSE4, "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_ARM8_2 = ("asimd", "atomics", "asimdrdm")
_A76 = (*_ARM8_2, "asimdhp", "asimddp", "lrcpc")


def _x86(name: str, lanes: int, registers: int, needs: tuple[str, ...], about: str) -> Target:
    tvm = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": name}
    return Target(name, tvm, lanes, registers, "x86_64", flags=("-O2",), needs=needs, about=about)


def _arm64(name: str, cpu: str, needs: tuple[str, ...], about: str, features: tuple[str, ...] = ()) -> Target:
    tvm = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": cpu} | (
        {"mattr": list(features)} if features else {}
    )
    linker = ("ld.lld", "aarch64-linux-gnu-ld", "aarch64-linux-gnu-gcc")
    return Target(name, tvm, NEON.lanes, NEON.registers, "aarch64", linker=linker, flags=(), needs=needs, about=about)


def _arm32(name: str, cpu: str, features: tuple[str, ...], needs: tuple[str, ...], about: str) -> Target:
    tvm = {"kind": "llvm", "mtriple": "armv7l-linux-gnueabihf", "mcpu": cpu, "mattr": list(features)}
    tvm |= {"mfloat-abi": "hard"}
    linker = ("ld.lld", "arm-linux-gnueabihf-ld", "arm-linux-gnueabihf-gcc")
    return Target(
        name, tvm, NEON32.lanes, NEON32.registers, "armv7l", linker=linker, flags=(), needs=needs, about=about
    )


TARGETS: dict[str, Target | HostTarget] = {
    "host": HostTarget("host", vectors=True, about="this machine, by LLVM"),
    "c": HostTarget("c", vectors=False, about="this machine, as C source through its compiler: fall-back and oracle"),
    "x86-64-v2": _x86("x86-64-v2", 4, 16, _SSE4, about="x86-64 with SSE4.2: Nehalem and Atom of 2013 and later"),
    "x86-64-v3": _x86("x86-64-v3", 8, 16, _AVX2, about="x86-64 with AVX2: Haswell, Zen and later"),
    "x86-64-v4": _x86("x86-64-v4", 16, 32, _AVX512, about="x86-64 with AVX-512: Skylake-X, Zen 4 and later"),
    "aarch64": _arm64("aarch64", "generic", ("asimd",), about="any 64-bit ARM processor"),
    "cortex-a53": _arm64("cortex-a53", "cortex-a53", ("asimd",), about="Raspberry Pi 3, Zero 2 W; small cores of 2015"),
    "cortex-a72": _arm64("cortex-a72", "cortex-a72", ("asimd",), about="Raspberry Pi 4; large cores of 2016"),
    "cortex-a76": _arm64("cortex-a76", "cortex-a76", _A76, about="Raspberry Pi 5, RK3588; large cores of 2019"),
    "cortex-a78": _arm64("cortex-a78", "cortex-a78", _A76, about="Jetson Orin, phones; large cores of 2021"),
    "armv8.2-dotprod": _arm64(
        "armv8.2-dotprod",
        "generic",
        (*_ARM8_2, "asimddp"),
        features=("+v8.2a", "+dotprod"),
        about="64-bit ARM with int8 dot products: most phones since 2018",
    ),
    "armv8.6-i8mm": _arm64(
        "armv8.6-i8mm",
        "generic",
        (*_ARM8_2, "asimddp", "i8mm", "bf16"),
        features=("+v8.2a", "+dotprod", "+i8mm", "+bf16"),
        about="64-bit ARM with int8 matrix products: phones since 2022",
    ),
    "armv7": _arm32(
        "armv7", "generic", ("+v7", "+neon"), ("neon", "vfpv3"), about="any 32-bit ARM processor with NEON"
    ),
    "cortex-a7": _arm32(
        "cortex-a7", "cortex-a7", ("+neon", "+vfp4"), ("neon", "vfpv4", "idiva"), about="Raspberry Pi 2, small boards"
    ),
    "cortex-a15": _arm32(
        "cortex-a15", "cortex-a15", ("+neon", "+vfp4"), ("neon", "vfpv4", "idiva"), about="Odroid XU4, Jetson TK1"
    ),
}


def resolve(target: str | Target | HostTarget, *, trust_code: bool = False) -> Target:
    """Return the concrete target: a line of ``TARGETS`` by name, ``module:NAME`` of a target outside of hashpress, or a value.

    Raises:
        TargetError: no such target, or code that is not trusted.
    """
    if isinstance(target, str):
        target = _foreign(target, trust_code) if ":" in target else lookup(TARGETS, target, "target", TargetError)
    return target.resolve() if isinstance(target, HostTarget) else target


def _foreign(name: str, trust_code: bool) -> Target | HostTarget:
    found = import_name(name, "target", trust_code=trust_code, error=TargetError)
    if not isinstance(found, Target | HostTarget):
        raise TargetError(f"target {name!r} is a {type(found).__name__}; it must be a hashpress.Target")
    return found


def _host_cpu(machine: str) -> tuple[str, Level]:
    """Return LLVM's name of this processor and its register file."""
    from tvm.target import Target as TvmTarget  # noqa: PLC0415 - the table is also read where no compiler is installed
    from tvm.target import codegen  # noqa: PLC0415

    cpu = str(codegen.llvm_get_system_cpu())
    if machine == "aarch64":
        return cpu, NEON
    level = next(level for level in X86 if set(level.needs) <= cpu_flags())
    # a hypervisor may hide instruction sets that the processor's name promises
    known = not level.needs or codegen.llvm_cpu_has_features(
        [LLVM_NAMES.get(name, name) for name in level.needs], TvmTarget({"kind": "llvm", "mcpu": cpu})
    )
    promises = codegen.llvm_cpu_has_features(["avx512f"], TvmTarget({"kind": "llvm", "mcpu": cpu}))
    return (cpu if known and (level is X86[0] or not promises) else level.name), level


def machine_name(machine: str) -> str:
    """Return the ELF machine of what ``uname -m`` or Python's platform calls an architecture."""
    machine = machine.lower()
    return {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l", "i686": "i386"}.get(machine, machine)


def host_machine() -> str:
    """Return the ELF machine of this one."""
    return machine_name(platform.machine())


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets the kernel lets programs use: a hypervisor may hide what the processor's name says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(flags_of(lines))


def flags_of(cpuinfo: Iterable[str]) -> list[str]:
    """Return the instruction sets in the lines of a /proc/cpuinfo: ``flags`` of x86, ``Features`` of ARM."""
    return next((line.partition(":")[2] for line in cpuinfo if line.startswith(("flags", "Features"))), "").split()
