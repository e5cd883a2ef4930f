"""Which figures of two reports may be compared: times need one machine, bytes of a file compare anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .report import Report

Severity = Literal["refuse", "warn"]

_MACHINE = {"cpu": "processor", "arch": "architecture", "cores": "cores", "system": "system"}
_LIBRARY = ("storage.library", "storage.bundle", "storage.manifest", "memory.activations", "memory.packed")
_PROCESS = ("memory.network", "memory.rss", "memory.idle")
_EVALUATION = {
    "data": "data set",
    "protocol": "protocol",
    "queries": "queries",
    "database": "database",
    "digest": "images",
}


@dataclass(frozen=True)
class Mismatch:
    """A reason why a figure of two reports differs for other causes than the network."""

    severity: Severity
    reason: str


def mismatch(metric: str, report: Report, baseline: Report) -> Mismatch | None:
    """Return why the figure ``metric`` of two reports should not be compared; None if it may be."""
    family = metric.partition(".")[0]
    if family == "quality":
        return _refused(_differences(_evaluation(report), _evaluation(baseline), _EVALUATION))
    target = _differences({"target": report.target}, {"target": baseline.target}, {"target": "target"})
    if metric in _LIBRARY:
        return _warned(target)
    device = _differences({"device": report.device}, {"device": baseline.device}, {"device": "device"})
    if family in ("instructions", "cycles"):
        return _refused(target + device)
    machine = _differences(report.machine, baseline.machine, {**_MACHINE, "threads": "threads"})
    if metric in _PROCESS:
        return _warned(target + device + machine)
    if family in ("latency", "emulated"):
        return _refused(target + device + machine)
    return None


def times_compare(report: Report, baseline: Report) -> bool:
    """Return whether times of the two reports come from one machine, with the same threads, target and device."""
    return mismatch("latency.p50", report, baseline) is None


def _differences(now: Mapping[str, Any], before: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Return one text for each value that is known on both sides and differs."""
    pairs = ((what, now.get(key), before.get(key)) for key, what in names.items())
    return [
        f"{what} differs" if what == "images" else f"{what} {value}, baseline {other}"
        for what, value, other in pairs
        if value is not None and other is not None and value != other
    ]


def _evaluation(report: Report) -> Mapping[str, Any]:
    entry = report.quality.get("symmetric")
    return entry if isinstance(entry, Mapping) else {}


def _refused(differences: list[str]) -> Mismatch | None:
    return Mismatch("refuse", "; ".join(differences)) if differences else None


def _warned(differences: list[str]) -> Mismatch | None:
    return Mismatch("warn", "; ".join(differences)) if differences else None
