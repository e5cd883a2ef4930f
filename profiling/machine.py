"""The machine behind a measurement, and the reasons why it may be too noisy to be believed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..targets.devices.machine import describe

__all__ = ["describe", "noise", "versions"]


def noise(machine: dict[str, Any], threads: int = 1) -> list[str]:
    """Return the reasons, one sentence each, to distrust times taken on ``machine``; empty when there is none."""
    reasons = []
    load, cores = machine.get("load"), machine.get("cores") or 1
    if load is not None and load > cores - threads + 0.5:
        reasons.append(f"load average {load} on {cores} cores: other work ran beside the measurement")
    governor = machine.get("governor")
    if governor not in (None, "performance"):
        reasons.append(f"frequency governor is {governor!r}, not 'performance': clocks may move during a run")
    now, top = machine.get("mhz"), machine.get("max_mhz")
    if now and top and now < 0.8 * top:
        reasons.append(f"the clock stood at {now} of {top} MHz: throttled or idle")
    return reasons


def versions() -> dict[str, str]:
    """Return the versions of everything that shapes a number, without importing it."""
    found = {"python": platform.python_version()}
    for name in ("hashpress", "torch", "numpy", "apache-tvm", "constriction", "safetensors", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
