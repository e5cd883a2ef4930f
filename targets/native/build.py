"""The files of the native runtime in a bundle: one executable, the library in two kinds, and its header."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..abi import header
from .compiler import FLAGS, PROGRAM, SOURCES, Compiler, runtime_objects
from .network import network_source

RUN, SHARED, STATIC, HEADER = "hashnet-run", "libhashnet.so", "libhashnet.a", "hashnet.h"
FILES = (RUN, SHARED, STATIC, HEADER)
EXPORTS = "{ global: hashnet_*; local: *; };\n"


def build_runtime(
    manifest: Mapping[str, Any], objects: Sequence[Path], folder: Path, compiler: Compiler, flags: Sequence[str] = ()
) -> tuple[str, ...]:
    """Link a network's ``objects`` with the runtime into ``folder`` and return the names of the files.

    Raises:
        TargetError: the compiler failed.
    """
    runtime = runtime_objects(compiler, header())
    program = next(path for path in runtime if path.stem == Path(PROGRAM).stem)
    with tempfile.TemporaryDirectory(prefix="hashpress-") as work:
        place = Path(work)
        (place / "hashnet_abi.h").write_text(header(), encoding="utf-8")
        (place / "network.c").write_text(network_source(manifest), encoding="utf-8")
        (place / "exports").write_text(EXPORTS, encoding="utf-8")
        own = place / "network.o"
        compiler.run(*FLAGS, *flags, f"-I{SOURCES}", f"-I{work}", "-c", str(place / "network.c"), "-o", str(own))
        parts = [str(path) for path in (own, *(path for path in runtime if path != program), *objects)]
        shared = ["-shared", f"-Wl,--version-script={place / 'exports'}", "-Wl,-soname,libhashnet.so", "-s"]
        compiler.run(*shared, "-o", str(folder / SHARED), *parts, "-lm")
        static = ["-static"] if compiler.static else []
        compiler.run(*static, "-s", "-Wl,--gc-sections", "-o", str(folder / RUN), str(program), *parts, "-lm")
        archive(compiler, folder / STATIC, parts)
    shutil.copyfile(SOURCES / HEADER, folder / HEADER)
    return FILES


def archive(compiler: Compiler, path: Path, objects: Sequence[str]) -> None:
    """Write a static library by the archiver that belongs to the compiler."""
    if "ziglang" in compiler.command:
        command = compiler.command[: compiler.command.index("cc")]
        Compiler((*command, "ar")).run("rcsD", str(path), *objects)
    else:
        Compiler((shutil.which("ar") or "ar",)).run("rcsD", str(path), *objects)
