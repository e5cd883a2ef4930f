"""A bundle: a directory with kernels, model file, manifest and golden codes; whole or absent, and checked when opened.

``hashnet-run``, ``libhashnet.so``, ``libhashnet.a`` and ``hashnet.h`` are the native runtime with the same kernels, where
a C compiler was there. ``lib.so`` holds compiled kernels and no weights, ``model.safetensors`` the compressed model, ``golden.npz`` images with
the outputs torch gave for them, ``manifest.json`` everything else: sizes and hashes of the others, target, input, steps,
memory plan and tool versions. Needs neither torch nor a compiler.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import TargetError
from ..core.files import sha256_file
from ..core.outputs import BUNDLE, kind_of
from .table import cpu_flags, host_machine

FORMAT = 2
LIBRARY, MODEL, GOLDEN, MANIFEST = "lib.so", "model.safetensors", "golden.npz", "manifest.json"
PARTS = (LIBRARY, MODEL, GOLDEN)
ELF = {62: "x86_64", 183: "aarch64", 40: "armv7l", 3: "i386"}
KEYS = ("target", "encoder", "bits", "input", "files", "memory", "steps", "tools")


@dataclass(frozen=True)
class Bundle:
    """A directory whose files are what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files, without the manifest."""
        return tuple(self.manifest["files"])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.manifest["input"]["shape"])

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.manifest["bits"])


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Return the bundle in the directory ``path`` after checking every file's size and hash.

    Raises:
        TargetError: a file is missing or changed, or the manifest is not one of ours.
    """
    path = Path(path)
    manifest = _manifest(path)
    for name in dict.fromkeys((*PARTS, *manifest["files"])):
        entry = manifest["files"].get(name)
        file = path / name
        if not isinstance(entry, dict) or not file.is_file():
            raise TargetError(f"{path} is not a whole bundle: {name} is missing; compile it again")
        if file.stat().st_size != entry.get("bytes"):
            raise TargetError(
                f"{file} has {file.stat().st_size} bytes, its manifest says {entry.get('bytes')}; compile it again"
            )
        if sha256_file(file) != entry.get("sha256"):
            raise TargetError(f"{file} is not the file its manifest describes (SHA-256 differs); compile it again")
    return Bundle(path, manifest)


def check_machine(bundle: Bundle) -> None:
    """Check that this machine can run the bundle's library.

    Raises:
        TargetError: it is for another architecture, or needs instructions that this machine does not have.
    """
    library, wanted = bundle.path / LIBRARY, host_machine()
    found = elf_machine(library)
    if found != wanted:
        raise TargetError(
            f"{library} is for {found}, this machine is {wanted}; run it elsewhere (--device) or compile it for host"
        )
    missing = missing_features(bundle, cpu_flags())
    if missing:
        raise TargetError(
            f"{library} needs {', '.join(missing)}, which this machine does not have; compile it for host"
        )


def missing_features(bundle: Bundle, features: Iterable[str]) -> list[str]:
    """Return the instruction sets that a bundle's library needs and a machine with ``features`` lacks."""
    has = set(features)
    return [name for name in bundle.manifest["target"].get("needs", ()) if name not in has]


def elf_machine(path: Path) -> str:
    """Return the architecture a shared library is for.

    Raises:
        TargetError: it is no shared library.
    """
    with path.open("rb") as handle:
        head = handle.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        raise TargetError(f"{path} is not a shared library")
    code = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return ELF.get(code, f"ELF machine {code}")


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TargetError(f"{path} is no bundle: it has no {MANIFEST}") from None
    except NotADirectoryError:
        raise TargetError(f"{path} is a file, not a bundle; compile a model file first: hashpress compile") from None
    except (OSError, ValueError) as fault:
        raise TargetError(f"{file} cannot be read: {fault}") from fault
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise TargetError(f"{file} has format {found!r}, this version reads {FORMAT}; compile it again")
    if missing := [key for key in KEYS if key not in manifest]:
        raise TargetError(f"{file} says nothing about {', '.join(missing)}; compile it again")
    return manifest


@contextmanager
def new_bundle(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield an empty directory that becomes ``path`` when the block ends well and vanishes when not.

    Raises:
        TargetError: ``path`` exists and is no bundle with nothing else in it (with ``force``, a file may be there), or
            its folder cannot be written.
    """
    path = Path(path)
    if path.exists() and kind_of(path) not in (BUNDLE, "") and not (force and path.is_file()):
        raise TargetError(f"{path} exists and is no bundle; name another place")
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as fault:
        raise TargetError(f"cannot write {path}: {fault.strerror}") from fault
    try:
        built, old = work / "new", work / "old"
        built.mkdir()
        yield built
        if path.exists():
            path.rename(old)
        built.rename(path)
    except OSError as fault:
        raise TargetError(f"cannot write {path}: {fault.strerror or fault}") from fault
    finally:
        shutil.rmtree(work, ignore_errors=True)
