"""Objects and C sources to a shared library, with the first tool of the target's list that is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import tvm
import tvm_ffi

from ...core.errors import TargetError
from ..table import Target


def linker(target: Target) -> str:
    """Return the path of the tool that links for ``target``.

    Raises:
        TargetError: none of the tools is installed.
    """
    for name in target.linker:
        if found := shutil.which(name):
            return found
    raise TargetError(f"target {target.name!r} needs one of {', '.join(target.linker)} on the PATH, found none")


def includes() -> list[str]:
    """Return the options by which a compiler finds the headers that generated C includes."""
    headers = [tvm.libinfo.find_include_path(), *tvm_ffi.libinfo.include_paths()]
    return [f"-I{path}" for path in dict.fromkeys(headers)]


def link(target: Target, output: str, objects: Sequence[str]) -> None:
    """Write ``output`` from objects, and from C sources, which are compiled with the target's flags.

    Raises:
        TargetError: the tool failed; its first error is in the message.
    """
    command = [linker(target), "-shared", "-fPIC", *target.flags, *includes(), "-o", output, *objects]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        last = next((line for line in lines if "error" in line), lines[-1])
        raise TargetError(f"{Path(command[0]).name} failed to link {Path(output).name}: {last}")


def linker_version(target: Target) -> str:
    """Return the first line of what the linker says about itself."""
    done = subprocess.run([linker(target), "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]
