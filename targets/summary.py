"""What hashpress ls tells of targets: vector registers, needed instruction sets, and what can run their bundles here."""

from __future__ import annotations

import shutil
from typing import Any

from .table import TARGETS, X86, HostTarget, Target, cpu_flags, host_machine

_EMULATORS = {"aarch64": "qemu-aarch64", "armv7l": "qemu-arm"}


def target_rows() -> dict[str, dict[str, Any]]:
    """Return for each target its registers, what it needs, what runs it here (empty if nothing does), and its description."""
    return {name: _row(target) for name, target in TARGETS.items()}


def _row(target: Target | HostTarget) -> dict[str, Any]:
    if isinstance(target, HostTarget):
        level = next((level for level in X86 if set(level.needs) <= cpu_flags()), None)
        known = level if host_machine() == "x86_64" else None
        vectors = f"{known.registers} x {32 * known.lanes} bits" if known else "32 x 128 bits"
        return {
            "vectors": vectors,
            "needs": list(known.needs) if known else [],
            "runs_on": "local",
            "about": target.about,
        }
    vectors = f"{target.registers} x {32 * target.lanes} bits"
    return {"vectors": vectors, "needs": list(target.needs), "runs_on": _runs_on(target), "about": target.about}


def _runs_on(target: Target) -> str:
    """Return the device on this machine that runs a target's bundles."""
    if target.machine == host_machine() and set(target.needs) <= cpu_flags():
        return "local"
    emulator = _EMULATORS.get(target.machine)
    return "qemu" if emulator and (shutil.which(emulator) or shutil.which(f"{emulator}-static")) else ""
