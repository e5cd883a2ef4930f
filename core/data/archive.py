"""The files below a folder or inside a tar of any compression, in one pass and without extracting anything."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Self

from ..errors import DataError

LARGEST_FILE = 2**28  # bytes of one file
BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class File:
    """One file: its name relative to the root, with ``/``, and how to read it now (a tar moves on)."""

    name: str
    read: Callable[[], bytes]


def files(root: Path) -> Iterator[File]:
    """Yield the files of a folder, sorted, or of a tar, in its order.

    Raises:
        DataError: no tar, a damaged one, one whose names leave it, a file that cannot be read or is too large.
    """
    return _folder(root) if root.is_dir() else _tar(root)


def _folder(root: Path) -> Iterator[File]:
    for path in _walk(root):
        yield File(path.relative_to(root).as_posix(), partial(_read, path))


def _walk(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, children, names in os.walk(root, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            children.clear()
            continue
        seen.add(real)
        children.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _unreadable(fault: OSError) -> None:
    raise DataError(f"cannot read the folder {fault.filename}: {fault.strerror}") from fault


def _read(path: Path) -> bytes:
    try:
        _check_size(path.stat().st_size, str(path))
        return path.read_bytes()
    except OSError as fault:
        raise DataError(f"cannot read {path}: {fault.strerror}") from fault


def _check_size(size: int, name: str) -> None:
    if size > LARGEST_FILE:
        raise DataError(f"{name} has {size:,} bytes; the most is {LARGEST_FILE:,}")


class _Member(tarfile.TarInfo):
    """A member whose damaged header, or missing end of the archive, is an error and not the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed does not know it
            raise  # the block of zeros that ends an archive
        except tarfile.HeaderError as fault:
            raise tarfile.ReadError(str(fault)) from fault


def _tar(root: Path) -> Iterator[File]:
    try:
        with tarfile.open(root, "r|*", tarinfo=_Member) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise DataError(f"{root} has a member that leaves it, {member.name!r}: not a safe archive")
                if member.isdir():
                    continue
                if not member.isfile():
                    raise DataError(f"{root} has a link or device, {member.name!r}; unpack it and give the folder")
                _check_size(member.size, f"{member.name} in {root}")
                yield File(name.as_posix(), partial(_extract, archive, member))
    except BROKEN as fault:
        raise DataError(f"{root} is neither a folder nor a whole tar archive ({fault})") from fault


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    data = opened.read() if opened else b""
    if len(data) != member.size:
        raise EOFError(f"{member.name} is cut short")
    return data


def fingerprint(root: Path) -> str:
    """Return what changes when a file is added, removed, resized or touched: a hash of names, sizes and times."""
    content = hashlib.sha256(os.fsencode(root.resolve()))
    for path in [root] if root.is_file() else _walk(root):
        try:
            status = path.stat()
        except OSError as fault:
            raise DataError(f"cannot read {path}: {fault.strerror}") from fault
        content.update(os.fsencode(path.relative_to(root)))  # names need not be UTF-8
        content.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return content.hexdigest()
