"""What a machine is, as far as its system tells: one list of files, read here or on a device, and how they are understood.

What cannot be read, as much on a phone, is absent from the files and None in the result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..table import flags_of, machine_name
from .cores import core_types

FILES = (
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/sys/kernel/ostype",
    "/proc/sys/kernel/osrelease",
    "/proc/device-tree/model",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq",
    "/sys/class/thermal/thermal_zone*/temp",
)
_ABSOLUTE_ZERO, _TOO_HOT = -273.0, 200.0  # sensors that are not connected tell anything


def script() -> str:
    """Return a shell script that prints all files, each after a line with its name, and what ``uname`` says."""
    names = " ".join(FILES)
    return (
        f'for f in {names}; do [ -r "$f" ] && echo "@@ $f" && cat "$f" 2>/dev/null && echo; done\n'
        'echo "@@ machine"; uname -m\n'
        'command -v getprop >/dev/null 2>&1 && { echo "@@ phone"; getprop ro.product.manufacturer; getprop ro.product.model; }\n'
        "true"
    )


def files_of(text: str) -> dict[str, str]:
    """Return the files by name in what the script printed."""
    parts = re.split(r"^@@ (.*)\n", text.replace("\0", ""), flags=re.MULTILINE)
    return {name: content.strip() for name, content in zip(parts[1::2], parts[2::2], strict=True)}


def local_files() -> dict[str, str]:
    """Return the files of this machine."""
    found = {}
    for pattern in FILES:
        for path in sorted(Path("/").glob(pattern[1:])):
            try:
                found[str(path)] = path.read_text(encoding="utf-8", errors="replace").replace("\0", "").strip()
            except OSError:
                continue
    return found | {"machine": os.uname().machine}


def understand(files: Mapping[str, str]) -> dict[str, Any]:
    """Return processor, cores, features, governor, clock, load, temperature and memory, as JSON-able values."""
    cpuinfo = files.get("/proc/cpuinfo", "").splitlines()
    memory = dict(re.findall(r"^(\w+):\s+(\d+) kB", files.get("/proc/meminfo", ""), re.MULTILINE))
    governors = sorted(set(_all(files, "scaling_governor")))
    load = files.get("/proc/loadavg", "").split()
    types = core_types(cpuinfo)
    model = " ".join(files.get("phone", "").split()) or files.get("/proc/device-tree/model") or None
    system = " ".join(filter(None, (files.get(f"/proc/sys/kernel/{name}") for name in ("ostype", "osrelease"))))
    return {
        "model": model,
        "cpu": _field(cpuinfo, "model name") or ", ".join(types) or _field(cpuinfo, "Hardware") or model,
        "arch": machine_name(files["machine"]) if files.get("machine") else None,
        "cores": _count(files.get("/sys/devices/system/cpu/online", ""))
        or sum(_is_core(line) for line in cpuinfo)
        or None,
        "core_types": types,
        "features": flags_of(cpuinfo),
        "system": system or None,
        "governor": " ".join(governors) or None,
        "mhz": _most(_all(files, "scaling_cur_freq"), 1000),
        "max_mhz": _most(_all(files, "cpuinfo_max_freq"), 1000),
        "load": float(load[0]) if load else None,
        "celsius": _celsius(_all(files, "temp")),
        "memory_mb": int(memory["MemTotal"]) // 1024 if "MemTotal" in memory else None,
        "free_mb": int(memory["MemAvailable"]) // 1024 if "MemAvailable" in memory else None,
    }


def _field(lines: list[str], name: str) -> str | None:
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)


def _is_core(line: str) -> bool:
    return line.partition(":")[0].strip() == "processor"


def _all(files: Mapping[str, str], name: str) -> list[str]:
    return [text for path, text in files.items() if path.rpartition("/")[2] == name and text]


def _most(numbers: list[str], unit: int) -> int | None:
    return max((int(text) // unit for text in numbers if text.isdigit()), default=None)


def _celsius(numbers: list[str]) -> float | None:
    """Return the highest temperature of all sensors, which give thousandths of a degree, or degrees on old phones."""
    values = [float(text) for text in numbers if re.fullmatch(r"-?\d+", text)]
    degrees = [value / 1000 if abs(value) >= 1000 else value for value in values]
    return max((round(value, 1) for value in degrees if _ABSOLUTE_ZERO < value < _TOO_HOT), default=None)


def _count(ranges: str) -> int:
    """Return how many numbers a list of ranges such as ``0-3,8`` holds."""
    spans = re.findall(r"(\d+)(?:-(\d+))?", ranges)
    return sum(int(last or first) - int(first) + 1 for first, last in spans)
