"""The kinds of devices, and how one is named: ``KIND`` or ``KIND:ADDRESS``."""

from __future__ import annotations

from collections.abc import Callable

from ...core.errors import InputError, lookup
from .base import Device
from .local import LocalDevice

DEVICES: dict[str, Callable[[str], Device]] = {"local": LocalDevice.parse}  # kind -> from an address to a device


def parse_device(text: str) -> Device:
    """Return the device called ``text``.

    Raises:
        InputError: an unknown kind, or an address that its kind does not understand.
    """
    kind, _, address = text.partition(":")
    return lookup(DEVICES, kind, "device", InputError)(address)
