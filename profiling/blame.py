"""Largest contributors to a figure: the layers, tensors or bits to inspect first when it is over budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .metrics import METRICS
from .report import GROUPS, Report, show

_OUTSIDE = ("library", "manifest", "golden", "other")  # groups of the bundle outside the model file


def blame(report: Report, metric: str, baseline: Report | None = None, top: int = 3) -> tuple[str, ...]:
    """Return up to ``top`` lines: the largest contributors, or those that grew most if the baseline was lower."""
    shares = contributions(report, metric)
    unit = METRICS[metric].unit
    total = sum(shares.values()) or 1.0
    grown = _grown(shares, contributions(baseline, metric)) if baseline else {}
    if grown:
        return tuple(
            f"{name} grew by {show(value, unit)} to {show(shares[name], unit)}" for name, value in _largest(grown, top)
        )
    if metric == "quality.bit_flips":
        return tuple(f"{name} flips for {show(value, unit)} of the inputs" for name, value in _largest(shares, top))
    return tuple(f"{name}: {show(value, unit)} ({100 * value / total:.0f} %)" for name, value in _largest(shares, top))


def contributions(report: Report, metric: str) -> dict[str, float]:
    """Return the contributors to ``metric`` by name, in its unit; empty if the report has none."""
    family, _, name = metric.partition(".")
    if family in ("latency", "emulated", "instructions", "cycles") and name != "open":
        return _summed((layer.name, layer.cost.value) for layer in report.layers)
    if family == "storage":
        if name in GROUPS:
            return _summed((layer_of(part.name), part.bytes) for part in report.parts if part.group == name)
        parts = [part for part in report.parts if name == "bundle" or part.group not in _OUTSIDE]
        return _summed((f"{layer_of(part.name)} ({part.group})", part.bytes) for part in parts)
    if metric == "memory.rss":
        names = ("memory.idle", "memory.weights", "memory.packed", "memory.activations")
        return {name: report.figures[name].value for name in names if name in report.figures}
    if metric == "quality.bit_flips":
        per_bit = _flips_per_bit(report.quality)
        return {f"bit {place}": share for place, share in enumerate(per_bit)}
    return {}


def layer_of(tensor: str) -> str:
    """Return the layer of a tensor: ``fc`` for ``fc.weight``, ``fc.bias`` and ``fc.form.indices``."""
    for suffix in (".weight", ".bias"):
        tensor = tensor.removesuffix(suffix)
    return tensor.partition(".form.")[0]


def _grown(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Return the growth of each contributor that grew; empty if their sum did not grow."""
    if sum(now.values()) <= sum(before.values()):
        return {}
    growth = {name: value - before.get(name, 0.0) for name, value in now.items()}
    return {name: value for name, value in growth.items() if value > 0}


def _flips_per_bit(quality: Mapping[str, object]) -> list[float]:
    flips = quality.get("flips")
    per_bit = flips.get("per_bit") if isinstance(flips, Mapping) else None
    return [float(value) for value in per_bit] if isinstance(per_bit, list) else []


def _summed(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, value in pairs:
        total[name] = total.get(name, 0.0) + value
    return total


def _largest(values: Mapping[str, float], top: int) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: -item[1])[:top]
