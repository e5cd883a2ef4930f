"""Any Linux board or server by ssh: ``ssh:[USER@]HOST[:PORT]``; everything else stands in ~/.ssh/config.

``HASHPRESS_SSH`` replaces the command ``ssh``, for options as in ``ssh -i key``. Nothing but a POSIX shell is needed on the
other side: files travel through ``cat``. All connections of a job share the one of its keeper.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...core.errors import DeviceError, InputError
from .connection import last_line, quote, shell

_ADDRESS = re.compile(
    r"(?:(?P<user>[\w.+][\w.+-]*)@)?(?:(?P<host>[\w.][\w.-]*)|\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\])(?::(?P<port>\d{1,5}))?"
)
_OPTIONS = {
    "BatchMode": "yes",  # no question is asked: a program asks for the device
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlMaster": "auto",
    "ControlPersist": "no",
}
_MENDING = (
    (r"Permission denied \(", "log in once by hand and copy your key there: ssh-copy-id {address}"),
    (r"Host key verification failed", "log in once by hand to accept its key: ssh {address}"),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "if that is right: ssh-keygen -R {host}"),
    (r"Could not resolve|Name or service not known|Temporary failure in name", "check the name, or use its IP address"),
    (
        r"Connection refused",
        "start the ssh server there (sudo systemctl enable --now ssh), or give its port: HOST:PORT",
    ),
    (r"timed out|No route to host|Network is unreachable", "check that it is switched on and in this network"),
    (r"No space left", "remove files there, or set HASHPRESS_DEVICE_FOLDER to a folder on another disk"),
)


@dataclass(frozen=True)
class SshTransport:
    """A machine on the network."""

    host: str
    user: str = ""
    port: int = 0

    @classmethod
    def parse(cls, address: str) -> SshTransport:
        """Return the transport to ``[USER@]HOST[:PORT]``.

        Raises:
            InputError: the address has another form.
        """
        found = _ADDRESS.fullmatch(address)
        if found is None or int(found["port"] or 1) not in range(1, 65536):
            raise InputError(f"device ssh is written ssh:[USER@]HOST[:PORT], found {f'ssh:{address}'!r}")
        return cls(found["host"] or found["ipv6"], found["user"] or "", int(found["port"] or 0))

    @property
    def name(self) -> str:
        """``ssh:[USER@]HOST[:PORT]``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh:{self._login(host)}{f':{self.port}' if self.port else ''}"

    @property
    def folders(self) -> tuple[str, ...]:
        """The user's cache, else folders for temporary files."""
        chosen = os.environ.get("HASHPRESS_DEVICE_FOLDER")
        if chosen:
            return (quote(chosen),)
        temporary = (f'"{place}/hashpress-$(id -u)"' for place in ("${TMPDIR:-/tmp}", "/var/tmp", "/dev/shm"))  # noqa: S108  # on the device
        return ('"${XDG_CACHE_HOME:-$HOME/.cache}/hashpress"', *temporary)

    def command(self, script: str) -> list[str]:
        """Return the ssh command that runs a script.

        Raises:
            DeviceError: ssh is not installed.
        """
        program = shlex.split(os.environ.get("HASHPRESS_SSH") or "ssh")
        if shutil.which(program[0]) is None:
            raise DeviceError(f"{self.name}: {program[0]} is not installed; install it: apt-get install openssh-client")
        options = [f"-o{key}={value}" for key, value in _OPTIONS.items()]
        port = ["-p", str(self.port)] if self.port else []
        shared = f"-oControlPath={_sockets()}/%C"
        return [*program, *options, shared, *port, "--", self._login(self.host), f"exec sh -c {quote(script)}"]

    def launcher(self, machine: str) -> str:  # noqa: ARG002  # as the protocol asks
        """Return nothing: programs run as they are."""
        return ""

    def send(self, source: Path, destination: str, seconds: float) -> None:
        """Copy a file there.

        Raises:
            DeviceError: the connection broke, or the disk is full.
        """
        with source.open("rb") as stream:
            done = shell(self, f"cat > {quote(destination)}", seconds, stream)
        if done.code:
            raise DeviceError(f"{self.name}: {source.name} cannot be sent: {self.explain(done.err)}")

    def fetch(self, source: str, seconds: float) -> bytes:
        """Return a file from there.

        Raises:
            DeviceError: the connection broke, or there is no such file.
        """
        done = shell(self, f"cat {quote(source)}", seconds)
        if done.code:
            raise DeviceError(
                f"{self.name}: {Path(source).name} cannot be fetched: {last_line(done.err, 'no reason given')}"
            )
        return done.out

    def explain(self, message: str) -> str:
        """Return what ssh complained about and how to mend it."""
        line = next((line for line in message.splitlines() for what, _ in _MENDING if re.search(what, line)), None)
        line = (line or last_line(message, "the connection ended")).strip()
        hint = next((hint for what, hint in _MENDING if re.search(what, line)), "")
        login = f"{f'-p {self.port} ' if self.port else ''}{self._login(self.host)}"
        return f"{line}{'; ' if hint else ''}{hint.format(address=login, host=self.host)}"

    def _login(self, host: str) -> str:
        return f"{self.user}@{host}" if self.user else host


@cache
def _sockets() -> str:
    """Return a folder for the sockets of shared connections, which is removed when the program ends."""
    folder = tempfile.mkdtemp(prefix="hp-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
