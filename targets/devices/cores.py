"""Names of ARM cores: the implementer and part numbers of a core's MIDR register, as /proc/cpuinfo shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

ARM_LTD = 0x41
CORES = {
    0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0E: "Cortex-A17",
    0xC0F: "Cortex-A15", 0xB76: "ARM1176", 0xD02: "Cortex-A34", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35",
    0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4B: "Cortex-A78C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720", 0xD82: "Cortex-X4",
}  # fmt: skip


def core_types(cpuinfo: Iterable[str]) -> list[str]:
    """Return the types of cores in the lines of an ARM /proc/cpuinfo with their numbers, such as ``4 x Cortex-A72``."""
    counts: Counter[str] = Counter()
    implementer = 0
    for line in cpuinfo:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "CPU implementer":
            implementer = int(value, 16)
        elif key == "CPU part":
            part = int(value, 16)
            known = CORES.get(part) if implementer == ARM_LTD else None
            counts[known or f"core {implementer:#04x}/{part:#05x}"] += 1
    return [f"{count} x {name}" for name, count in counts.items()]
