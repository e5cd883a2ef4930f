"""A lock on an output: one run at a time writes it; the lock of a process that has died is taken over."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

BUSY = (errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def locked(output: str | os.PathLike[str]) -> Iterator[None]:
    """Hold ``output.lock`` during the block; it names the process, and the kernel frees it when the process ends.

    Raises:
        InputError: another process that is alive writes ``output``, or its folder cannot be written.
    """
    output = Path(output)
    path = output.with_name(f"{output.name}.lock")
    handle = _acquired(path, output)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is free: whoever waits on this file sees that it is gone
        os.close(handle)


def _acquired(path: Path, output: Path) -> int:
    """Return the locked file; one that its owner has just removed is made anew."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as fault:
            raise InputError(f"cannot write {output}: {fault.strerror}") from fault
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            owner = os.pread(handle, 200, 0).decode("utf-8", "replace")
            os.close(handle)
            if fault.errno not in BUSY:
                raise InputError(f"cannot lock {path}: {fault.strerror}; write to a local disk") from fault
            raise InputError(
                f"{output} is being written by another run ({owner or 'just started'}); wait for it, stop it, or name "
                "another output"
            ) from fault
        if _is_at(handle, path):
            return handle
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
