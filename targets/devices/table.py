"""The kinds of devices, and how one is named: ``KIND`` or ``KIND:ADDRESS``."""

from __future__ import annotations

from collections.abc import Callable

from ...core.errors import InputError, lookup
from .adb import AdbTransport
from .base import Device
from .local import LocalDevice
from .qemu import QemuTransport
from .remote import RemoteDevice
from .ssh import SshTransport

DEVICES: dict[str, Callable[[str], Device]] = {  # kind -> from an address to a device
    "local": LocalDevice.parse,
    "ssh": lambda address: RemoteDevice(SshTransport.parse(address)),
    "adb": lambda address: RemoteDevice(AdbTransport.parse(address)),
    "qemu": lambda address: RemoteDevice(QemuTransport.parse(address)),
}


def parse_device(text: str) -> Device:
    """Return the device called ``text``.

    Raises:
        InputError: an unknown kind, or an address that its kind does not understand.
    """
    kind, _, address = text.partition(":")
    return lookup(DEVICES, kind, "device", InputError)(address)
