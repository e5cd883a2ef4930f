"""State of the measuring machine: reasons why times may be noisy, and versions of the software involved."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..targets.devices.machine import describe

__all__ = ["describe", "noise", "versions"]


def noise(machine: dict[str, Any], threads: int = 1) -> list[str]:
    """Return reasons why times measured on ``machine`` may be unreliable, one sentence each."""
    reasons = []
    load, cores = machine.get("load"), machine.get("cores") or 1
    if load is not None and load > cores - threads + 0.5:
        reasons.append(f"load average {load} on {cores} cores: other processes ran during the measurement")
    governor = machine.get("governor")
    if governor not in (None, "performance"):
        reasons.append(
            f"frequency governor is {governor!r}, not 'performance': the clock frequency may change during a run"
        )
    now, top = machine.get("mhz"), machine.get("max_mhz")
    if now and top and now < 0.8 * top:
        reasons.append(f"the clock frequency was {now} of {top} MHz: throttled or idle")
    return reasons


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect a measurement, without importing them."""
    result = {"python": platform.python_version()}
    for name in ("hashpress", "torch", "numpy", "apache-tvm", "constriction", "safetensors", "onnxruntime"):
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result
