"""What this machine is, as far as the system tells: processor, clock, load, temperature, memory."""

from __future__ import annotations

import os
import platform
from typing import Any

from .survey import local_files, understand


def describe() -> dict[str, Any]:
    """Return processor, cores, features, governor and clock where readable, load, temperature and memory."""
    found = understand(local_files())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return found | {
        "cpu": found["cpu"] or platform.processor() or platform.machine(),
        "cores": found["cores"] or os.cpu_count(),
        "system": found["system"] or f"{platform.system()} {platform.release()}",
        "load": None if load is None else round(load, 2),
    }
