"""Objects and C sources to a shared library, with the first tool of the target's list that is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import tvm
import tvm_ffi

from ...core.errors import TargetError
from ..table import Target

LLD = "ld.lld"  # also in the wheel ziglang, which has no program on the PATH


def linker(target: Target) -> list[str]:
    """Return the command of the tool that links for ``target``.

    Raises:
        TargetError: none of the tools is installed.
    """
    for name in target.linker:
        if found := shutil.which(name):
            return [found]
        if name == LLD and find_spec("ziglang"):
            return [sys.executable, "-m", "ziglang", LLD]
    zig = " (or: pip install ziglang)" if LLD in target.linker else ""
    raise TargetError(f"target {target.name!r} needs one of {', '.join(target.linker)} on the PATH, found none{zig}")


def includes() -> list[str]:
    """Return the options by which a compiler finds the headers that generated C includes."""
    headers = [tvm.libinfo.find_include_path(), *tvm_ffi.libinfo.include_paths()]
    return [f"-I{path}" for path in dict.fromkeys(headers)]


def link(target: Target, output: str, objects: Sequence[str]) -> None:
    """Write ``output`` from objects, and from C sources, which are compiled with the target's flags.

    Raises:
        TargetError: the tool failed; its first error is in the message.
    """
    tool = linker(target)
    if tool[-1].endswith(("ld", LLD)):  # a linker alone, which takes no options of compilers
        command = [*tool, "-shared", "--hash-style=gnu", "-o", output, *objects]
    else:
        command = [*tool, "-shared", "-fPIC", *target.flags, *includes(), "-o", output, *objects]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        last = next((line for line in lines if "error" in line), lines[-1])
        raise TargetError(f"{Path(tool[-1]).name} failed to link {Path(output).name}: {last}")


def linker_version(target: Target) -> str:
    """Return the first line of what the linker says about itself."""
    done = subprocess.run([*linker(target), "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]
