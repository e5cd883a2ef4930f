"""A connection to a device: shell scripts that are run there, files that are copied there and back.

A transport (:mod:`.ssh`, :mod:`.adb`, :mod:`.qemu`) says which command of this machine does it; here the command is run,
with a time limit, and the end of the script is told from the end of the connection.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from ...core.errors import DeviceError

_EXIT = re.compile(rb"\n@exit (\d+)\r?\n?$")
QUICK_SECONDS = 30.0  # for scripts that only look


@dataclass(frozen=True)
class Finished:
    """What a script printed, and its exit code."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """The standard output as text."""
        return self.out.decode(errors="replace").replace("\r\n", "\n")


class Transport(Protocol):
    """How a kind of device is reached."""

    @property
    def name(self) -> str:
        """The device as :func:`parse_device` reads it."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders on the device, as shell words, in which hashpress may work; the first that allows programs is taken."""

    def command(self, script: str) -> list[str]:
        """Return the command of this machine that runs a shell script on the device, with its standard streams.

        Raises:
            DeviceError: the program that connects is not installed, or there is no such device.
        """

    def launcher(self, machine: str) -> str:
        """Return what is written before a program of an ELF machine to start it; mostly nothing."""

    def send(self, source: Path, destination: str, seconds: float) -> None:
        """Copy a file to an absolute path on the device.

        Raises:
            DeviceError: the connection broke, or the file cannot be written there.
        """

    def fetch(self, source: str, seconds: float) -> bytes:
        """Return the content of a file at an absolute path on the device.

        Raises:
            DeviceError: the connection broke, or the file cannot be read there.
        """

    def explain(self, message: str) -> str:
        """Return one line that says why a connection failed, and how to mend it, from what its program printed."""


def execute(transport: Transport, command: Sequence[str], seconds: float, stdin: IO[bytes] | None = None) -> Finished:
    """Run a command of this machine that talks to the device.

    Raises:
        DeviceError: it cannot be started or took longer than ``seconds``.
    """
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin or subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,  # Ctrl-C reaches hashpress, which then cleans up on the device
        )
    except OSError as fault:
        raise DeviceError(f"{transport.name}: {command[0]} cannot be started: {fault.strerror}") from fault
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as fault:
            raise DeviceError(f"{transport.name} did not answer within {seconds:g} s") from fault
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return Finished(process.returncode, out, err.decode(errors="replace"))


def shell(
    transport: Transport, script: str, seconds: float = QUICK_SECONDS, stdin: IO[bytes] | None = None
) -> Finished:
    """Run a shell script on the device and return its output and its own exit code.

    Raises:
        DeviceError: the device cannot be reached, does not answer in time, or the connection ends before the script does.
    """
    done = execute(transport, transport.command(f"({script}\n); printf '\\n@exit %d\\n' $?"), seconds, stdin)
    found = _EXIT.search(done.out)
    if found is None:
        raise DeviceError(f"{transport.name}: {transport.explain(done.err or done.out.decode(errors='replace'))}")
    return Finished(int(found[1]), done.out[: found.start()], done.err)


def last_line(text: str, otherwise: str) -> str:
    """Return the last line of a program's complaint."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), otherwise)


def quote(text: str) -> str:
    """Return a text as one word of a POSIX shell."""
    return shlex.quote(text)
