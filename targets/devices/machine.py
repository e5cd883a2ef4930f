"""What this machine is, as far as the system tells: processor, clock, temperature, load."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def describe() -> dict[str, Any]:
    """Return processor, cores, governor and frequency where readable, and the load, as JSON-able values."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu_model(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "governor": _read(_CPUFREQ / "scaling_governor"),
        "mhz": _megahertz(_read(_CPUFREQ / "scaling_cur_freq")),
        "max_mhz": _megahertz(_read(_CPUFREQ / "cpuinfo_max_freq")),
        "celsius": _temperature(),
        "load": None if load is None else round(load, 2),
    }


def _cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    text = _read(Path("/proc/cpuinfo")) or ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def _temperature() -> float | None:
    """Return the highest temperature of the thermal zones in degrees Celsius."""
    values = [_read(zone) for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    return max((int(value) / 1000 for value in values if value and value.lstrip("-").isdigit()), default=None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _megahertz(kilohertz: str | None) -> int | None:
    return int(kilohertz) // 1000 if kilohertz and kilohertz.isdigit() else None
