"""All devices that can be seen from here, each with what it is or why it cannot be used, and how to mend that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...core.errors import DeviceError
from ..table import TARGETS, Target
from .adb import AdbTransport, adb_devices, state_line
from .base import Device
from .local import LocalDevice
from .qemu import PROGRAMS, QemuTransport, qemu_program
from .remote import RUNS_ON, RemoteDevice

EMPTY: dict[str, Any] = {
    "model": None, "cpu": None, "arch": None, "cores": None, "core_types": [], "features": [], "system": None,
    "governor": None, "mhz": None, "max_mhz": None, "load": None, "celsius": None, "memory_mb": None, "free_mb": None,
}  # fmt: skip
HOT = 75.0  # degrees Celsius from which most boards and phones lower their clock


def examine(devices: Iterable[Device]) -> list[dict[str, Any]]:
    """Return a row for each device: what it is, or its ``problem`` in one line."""
    return [_row(device) for device in devices]


def visible() -> list[dict[str, Any]]:
    """Return rows for this machine, what adb sees, and emulated processors."""
    rows = examine([LocalDevice()])
    try:
        found = adb_devices()
        if not found:
            AdbTransport().connected()
    except DeviceError as fault:
        rows.append(_problem("adb", str(fault)))
    else:
        for serial, state in found.items():
            name = f"adb:{serial}"
            ready = state == "device"
            rows.append(_row(RemoteDevice(AdbTransport(serial))) if ready else _problem(name, state_line(state)))
    try:
        for machine in PROGRAMS:
            qemu_program(machine)
        rows += examine([RemoteDevice(QemuTransport())])
    except DeviceError as fault:
        rows.append(_problem("qemu", str(fault)))
    rows.append(_problem("ssh", "not searched for; name one: hashpress devices ssh:[USER@]HOST[:PORT]"))
    return rows


def _row(device: Device) -> dict[str, Any]:
    try:
        about = dict(device.describe())
    except DeviceError as fault:
        return _problem(device.name, str(fault).removeprefix(f"{device.name}: "))
    targets = _targets(about)
    return {"device": device.name, **EMPTY, **about, "targets": targets, "notes": _notes(about), "problem": None}


def _problem(name: str, problem: str) -> dict[str, Any]:
    return {"device": name, **EMPTY, "targets": [], "notes": [], "problem": problem}


def _targets(about: Mapping[str, Any]) -> list[str]:
    """Return the targets of the table whose bundles run there, the newest last."""
    arch, features = about.get("arch"), set(about.get("features") or ())
    machines = RUNS_ON.get(arch, (arch,)) if arch else tuple(PROGRAMS)
    return [
        name
        for name, target in TARGETS.items()
        if isinstance(target, Target)
        and target.machine in machines
        and (set(target.needs) <= features or (arch not in (None, target.machine)))
    ]


def _notes(about: Mapping[str, Any]) -> list[str]:
    """Return what would make measurements there unreliable, with what to do."""
    notes = []
    if about.get("governor") not in (None, "performance"):
        notes.append(
            f"governor {about['governor']}: the clock may change during a measurement; as root: for f in "
            "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance > $f; done"
        )
    if (about.get("celsius") or 0) >= HOT:
        notes.append(f"{about['celsius']} °C: let it cool down, the clock may be lowered")
    load, cores = about.get("load"), about.get("cores") or 1
    if load is not None and load > cores:
        notes.append(f"load {load} on {cores} cores: other programs run")
    return notes
