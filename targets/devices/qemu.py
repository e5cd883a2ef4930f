"""ARM processors in emulation on this machine: ``qemu`` or ``qemu:CPU``, with qemu's user mode (apt-get install qemu-user).

Codes and refusals are a real processor's; times are not, and are reported as emulated. Without a CPU, everything that qemu
emulates is there (``max``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DeviceError, InputError, TargetError
from .connection import last_line, quote

PROGRAMS = {"aarch64": "qemu-aarch64", "armv7l": "qemu-arm"}
_V8 = ("fp", "asimd", "crc32", "aes", "pmull", "sha1", "sha2")
_V8_2 = (*_V8, "atomics", "asimdrdm", "fphp", "asimdhp", "asimddp", "lrcpc")
_V7 = ("neon", "vfpv3", "idivt")
CPUS: dict[str, tuple[str, tuple[str, ...]]] = {  # name -> ELF machine, instruction sets of those that compilers use
    "cortex-a35": ("aarch64", _V8),
    "cortex-a53": ("aarch64", _V8),
    "cortex-a57": ("aarch64", _V8),
    "cortex-a72": ("aarch64", _V8),
    "cortex-a76": ("aarch64", _V8_2),
    "neoverse-n1": ("aarch64", _V8_2),
    "a64fx": ("aarch64", (*_V8, "atomics", "asimdrdm", "fphp", "asimdhp", "sve", "fcma")),
    "cortex-a7": ("armv7l", (*_V7, "vfpv4", "idiva")),
    "cortex-a8": ("armv7l", ("neon", "vfpv3")),
    "cortex-a9": ("armv7l", ("neon", "vfpv3")),
    "cortex-a15": ("armv7l", (*_V7, "vfpv4", "idiva")),
}
_ALL = (*_V8_2, "i8mm", "bf16", "sve", "fcma", *_V7, "vfpv4", "idiva")


@dataclass(frozen=True)
class QemuTransport:
    """An emulated processor; programs are copied to a folder of this machine and started through qemu."""

    cpu: str = ""

    @classmethod
    def parse(cls, address: str) -> QemuTransport:
        """Return the transport to a processor by qemu's name.

        Raises:
            InputError: a processor that is not in the table.
        """
        if address not in ("", "max", *CPUS):
            raise InputError(f"device qemu: unknown processor {address!r} (there are: max, {', '.join(CPUS)})")
        return cls(address)

    @property
    def name(self) -> str:
        """``qemu`` or ``qemu:CPU``."""
        return f"qemu:{self.cpu}" if self.cpu else "qemu"

    @property
    def folders(self) -> tuple[str, ...]:
        """A folder for temporary files."""
        chosen = os.environ.get("HASHPRESS_DEVICE_FOLDER")
        return (quote(chosen or f"{tempfile.gettempdir()}/hashpress-qemu-{os.getuid()}"),)

    def command(self, script: str) -> list[str]:
        """Return the command that runs a script on this machine."""
        return ["sh", "-c", script]

    def launcher(self, machine: str) -> str:
        """Return the call of qemu that starts a program.

        Raises:
            TargetError: the processor does not run programs of this ELF machine.
            DeviceError: qemu is not installed.
        """
        if machine not in PROGRAMS or (self.cpu in CPUS and CPUS[self.cpu][0] != machine):
            only = CPUS[self.cpu][0] if self.cpu in CPUS else " and ".join(PROGRAMS)
            raise TargetError(
                f"the bundle is for {machine}, {self.name} runs {only}; compile for a target of that kind"
            )
        return f"{qemu_program(machine)} -cpu {self.cpu or 'max'}"

    def describe(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of the emulated processor, given what is known of this machine.

        Raises:
            DeviceError: qemu is not installed.
        """
        machine = CPUS[self.cpu][0] if self.cpu in CPUS else next(iter(PROGRAMS))
        qemu_program(machine)
        emulated = {
            "model": "qemu user mode",
            "cpu": f"{self.cpu or 'max'}, emulated on {about['cpu']}",
            "arch": CPUS[self.cpu][0] if self.cpu in CPUS else None,
            "features": sorted(set(CPUS[self.cpu][1] if self.cpu in CPUS else _ALL)),
        }
        return about | emulated | dict.fromkeys(("governor", "mhz", "max_mhz", "celsius"))

    def send(self, source: Path, destination: str, seconds: float) -> None:  # noqa: ARG002  # as the protocol asks
        """Copy a file.

        Raises:
            DeviceError: it cannot be written.
        """
        try:
            shutil.copyfile(source, destination)
        except OSError as fault:
            raise DeviceError(f"{self.name}: {source.name} cannot be copied: {fault.strerror}") from fault

    def fetch(self, source: str, seconds: float) -> bytes:  # noqa: ARG002  # as the protocol asks
        """Return the content of a file.

        Raises:
            DeviceError: it cannot be read.
        """
        try:
            return Path(source).read_bytes()
        except OSError as fault:
            raise DeviceError(f"{self.name}: {Path(source).name} cannot be read: {fault.strerror}") from fault

    def explain(self, message: str) -> str:
        """Return the last line of what the shell complained about."""
        return last_line(message, "the shell ended")


def qemu_program(machine: str) -> str:
    """Return the path of qemu's user mode for an ELF machine.

    Raises:
        DeviceError: it is not installed.
    """
    name = PROGRAMS[machine]
    found = shutil.which(name) or shutil.which(f"{name}-static")
    if found is None:
        raise DeviceError(f"{name} is not installed; install it: apt-get install qemu-user")
    return found
