"""The machine behind a measurement, and the reasons why it may be too noisy to be believed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def describe() -> dict[str, Any]:
    """Return processor, cores, governor and frequency where readable, and the load, as JSON-able values."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu_model(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "governor": _read(_CPUFREQ / "scaling_governor"),
        "mhz": _megahertz(_read(_CPUFREQ / "scaling_cur_freq")),
        "max_mhz": _megahertz(_read(_CPUFREQ / "cpuinfo_max_freq")),
        "load": None if load is None else round(load, 2),
    }


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


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    text = _read(Path("/proc/cpuinfo")) or ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of everything that shapes a number, without importing it."""
    found = {"python": platform.python_version()}
    for name in ("hashpress", "torch", "numpy", "apache-tvm", "constriction", "safetensors", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _megahertz(kilohertz: str | None) -> int | None:
    return int(kilohertz) // 1000 if kilohertz and kilohertz.isdigit() else None
