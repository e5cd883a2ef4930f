"""The C compiler of the native runtime: the one that is given, the system's, or zig from PyPI for other machines."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...core.errors import TargetError
from ..table import host_machine

SOURCES = Path(__file__).parent / "src"
PROGRAM, FOR_TESTS = "hashnet_run.c", ("probe.c", "feed.c")  # of one executable each, and of tests
FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", "-ffunction-sections")
STRICT = ("-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Compiler:
    """A command that compiles and links C, such as ``("gcc",)``; ``static`` executables need nothing on the device."""

    command: tuple[str, ...]
    static: bool = False

    def run(self, *arguments: str) -> None:
        """Run it.

        Raises:
            TargetError: it failed; its first error is in the message.
        """
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            first = next((line for line in lines if "error" in line), lines[-1])
            raise TargetError(f"{self.name} failed: {first}")

    @property
    def name(self) -> str:
        """What a message calls it."""
        return " ".join(Path(word).name if os.sep in word else word for word in self.command)

    @property
    def version(self) -> str:
        """The first line of what it says about itself."""
        done = subprocess.run([*self.command, "--version"], capture_output=True, text=True, check=False)
        return (done.stdout.splitlines() or ["unknown"])[0]


def find_compiler(triple: str = "", cc: str = "", names: Sequence[str] = ("gcc", "cc", "clang")) -> Compiler | None:
    """Return the compiler ``cc``, or zig for a ``triple`` such as ``aarch64-linux-musl``, or the system's; None without any."""
    if cc:
        return Compiler(tuple(cc.split()))
    if triple:
        if find_spec("ziglang") is None:
            return None
        return Compiler((sys.executable, "-m", "ziglang", "cc", "-target", triple), static="musl" in triple)
    found = next((path for name in names if (path := shutil.which(name))), None)
    return Compiler((found,)) if found else None


CROSS = {  # by the ELF machine of a bundle: Debian's cross compiler, and what zig calls the machine
    "aarch64": ("aarch64-linux-gnu-gcc", "aarch64-linux-musl"),
    "armv7l": ("arm-linux-gnueabihf-gcc", "arm-linux-musleabihf"),
    "x86_64": ("x86_64-linux-gnu-gcc", "x86_64-linux-musl"),
}


def runtime_compiler(machine: str, names: Sequence[str]) -> tuple[Compiler | None, str]:
    """Return what compiles the runtime for an ELF machine, and what is missing where nothing does.

    On this machine it is the first of ``names``; for others the system's cross compiler, or zig (pip install ziglang).
    Programs for other machines are static: they need no library there.
    """
    if machine == host_machine():
        return find_compiler(names=names), f"none of {', '.join(names)} was found"
    if machine not in CROSS:
        return None, f"no compiler for {machine} is known"
    gcc, triple = CROSS[machine]
    found = shutil.which(gcc)
    compiler = Compiler((found,), static=True) if found else find_compiler(triple=triple)
    return (
        compiler,
        f"neither {gcc} (apt-get install gcc-{gcc.removesuffix('-gcc')}) nor zig (pip install ziglang) was found",
    )


def runtime_objects(compiler: Compiler, header: str, flags: Sequence[str] = ()) -> list[Path]:
    """Return the runtime's objects, one a source, from a cache that is keyed by sources, flags and compiler."""
    sources = sorted(path for path in SOURCES.glob("*.c") if path.name not in FOR_TESTS)
    digest = hashlib.sha256(repr((compiler.command, compiler.version, FLAGS, tuple(flags), header)).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    folder = cache_folder() / f"runtime-{digest.hexdigest()[:20]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".runtime.", dir=folder.parent) as work:
            built = Path(work) / "objects"
            built.mkdir()
            (Path(work) / "hashnet_abi.h").write_text(header, encoding="utf-8")
            for path in sources:
                place = str(built / f"{path.stem}.o")
                compiler.run(*FLAGS, *flags, f"-I{work}", f"-I{SOURCES}", "-c", str(path), "-o", place)
            try:
                built.rename(folder)
            except OSError:  # another process was faster
                if not folder.is_dir():
                    raise
    return sorted(folder.glob("*.o"))


def cache_folder() -> Path:
    """Return where objects are kept between builds."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hashpress"
