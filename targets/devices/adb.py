"""Android phones and boards by adb, over USB or the network: ``adb``, ``adb:SERIAL`` or ``adb:HOST:PORT``.

adb comes from the PATH or from $ANDROID_HOME; its own variables (ANDROID_SERIAL, ANDROID_ADB_SERVER_PORT) hold.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import DeviceError, InputError
from .connection import QUICK_SECONDS, Finished, execute, last_line, quote

_STATES = {
    "unauthorized": "unlock it and accept 'Allow USB debugging'; if it does not ask: adb kill-server, and plug it in again",
    "authorizing": "unlock it and accept 'Allow USB debugging'",
    "offline": "plug it in again, or: adb reconnect offline",
    "no permissions": "this user may not use the USB device: apt-get install android-sdk-platform-tools-common, or add a udev rule",
    "bootloader": "it is in its bootloader: fastboot reboot",
    "recovery": "it is in recovery mode: adb reboot",
    "sideload": "it waits for a system update: adb reboot",
}
_INSTALL = "install it: apt-get install adb, or the Android SDK platform tools"
_NONE = "no Android device is connected; connect one and switch on USB debugging in its developer options (check: adb devices)"


@dataclass(frozen=True)
class AdbTransport:
    """A device that adb knows; an empty serial is the only one there is."""

    serial: str = ""

    @classmethod
    def parse(cls, address: str) -> AdbTransport:
        """Return the transport to the device with a serial number, or to the only one.

        Raises:
            InputError: no serial number of adb's looks like this.
        """
        if address and not re.fullmatch(r"[\w.\[][\w.:()\[\]%-]*", address):
            raise InputError(
                f"device adb is written adb or adb:SERIAL, found {f'adb:{address}'!r}; see: hashpress devices"
            )
        return cls(address)

    @property
    def name(self) -> str:
        """``adb`` or ``adb:SERIAL``."""
        return f"adb:{self.serial}" if self.serial else "adb"

    @property
    def folders(self) -> tuple[str, ...]:
        """The folder in which Android lets the shell's programs run."""
        return (quote(os.environ.get("HASHPRESS_DEVICE_FOLDER") or "/data/local/tmp/hashpress"),)

    def command(self, script: str) -> list[str]:
        """Return the adb command that runs a script.

        Raises:
            DeviceError: adb is not installed, or there is no such device, or none that answers.
        """
        return [adb_program(), "-s", self.connected(), "shell", script]

    def launcher(self, machine: str) -> str:  # noqa: ARG002  # as the protocol asks
        """Return nothing: programs run as they are."""
        return ""

    def connected(self) -> str:
        """Return the serial number of the device, which is connected and lets us in.

        Raises:
            DeviceError: none, several, or one that does not.
        """
        found = adb_devices(self.name)
        if ":" in self.serial and found.get(self.serial) != "device":
            execute(self, [adb_program(), "connect", self.serial], QUICK_SECONDS)
            found = adb_devices(self.name)
        wanted = self.serial or os.environ.get("ANDROID_SERIAL", "")
        if wanted and wanted not in found:
            raise DeviceError(
                f"adb sees no device {wanted!r} ({', '.join(found) or 'none at all'}); see: hashpress devices"
            )
        if not wanted:
            if not found:
                raise DeviceError(_NONE)
            if len(found) > 1:
                choice = " or ".join(f"adb:{serial}" for serial in found)
                raise DeviceError(f"adb sees {len(found)} devices; name one: {choice}")
            (wanted,) = found
        if found[wanted] != "device":
            raise DeviceError(f"{wanted}: {state_line(found[wanted])}")
        return wanted

    def send(self, source: Path, destination: str, seconds: float) -> None:
        """Copy a file there.

        Raises:
            DeviceError: the connection broke, or the disk is full.
        """
        self._copy(["push", str(source.resolve()), destination], seconds, source.name)

    def fetch(self, source: str, seconds: float) -> bytes:
        """Return a file from there.

        Raises:
            DeviceError: the connection broke, or there is no such file.
        """
        with tempfile.TemporaryDirectory(prefix="hashpress-") as folder:
            path = Path(folder) / "file"
            self._copy(["pull", source, str(path)], seconds, Path(source).name)
            return path.read_bytes()

    def explain(self, message: str) -> str:
        """Return what adb complained about and how to mend it."""
        told = "\n".join(line for line in message.splitlines() if re.search(r"error|failed", line, re.IGNORECASE))
        line = last_line(told or message, "the connection ended").removeprefix("adb: ").removeprefix("error: ")
        if "No space left" in line:
            return f"{line}; remove files there: adb shell rm -r /data/local/tmp/..."
        if re.search(r"not found|closed|disconnected|no devices|device offline", line):
            return f"{line}; check the cable and: adb devices"
        return line

    def _copy(self, words: list[str], seconds: float, what: str) -> Finished:
        done = execute(self, [adb_program(), "-s", self.connected(), *words], seconds)
        if done.code:
            reason = self.explain(f"{done.text}\n{done.err}")
            raise DeviceError(f"{self.name}: {what} cannot be copied: {reason}")
        return done


def adb_program() -> str:
    """Return the path of adb.

    Raises:
        DeviceError: it is not installed.
    """
    kit = os.environ.get("ANDROID_HOME") or os.environ.get("ANDROID_SDK_ROOT")
    found = shutil.which("adb") or (shutil.which("adb", path=str(Path(kit) / "platform-tools")) if kit else None)
    if found is None:
        raise DeviceError(f"adb is not installed; {_INSTALL}")
    return found


def adb_devices(name: str = "adb") -> dict[str, str]:
    """Return the state of every device that adb sees by serial number.

    Raises:
        DeviceError: adb is not installed, or its server does not start.
    """
    done = execute(AdbTransport(name.partition(":")[2]), [adb_program(), "devices"], QUICK_SECONDS)
    _, found, rows = done.text.partition("List of devices attached\n")
    if not found:
        raise DeviceError(
            f"{name}: adb's server does not answer ({last_line(done.err, 'no reason given')}); try: adb kill-server"
        )
    return {serial: state.strip() for serial, _, state in (line.partition("\t") for line in rows.splitlines()) if state}


def state_line(state: str) -> str:
    """Return what the state of a device means and how to mend it."""
    hint = next((hint for word, hint in _STATES.items() if state.startswith(word)), "see: adb devices")
    return f"{state.partition(' (')[0]}: {hint}"
