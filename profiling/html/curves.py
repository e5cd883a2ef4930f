"""Data of the plots, extracted from the evaluation and history of a report; empty if a report has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..report import Report

Curve = tuple[Sequence[float], Sequence[float]]


def precision_recall(reports: Mapping[str, Report]) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Return the curves (recall, precision) of the models by label, and those of the networks they were made from.

    A network that several models were made from has one curve; none if it is one of the models.
    """
    models = {label: curve for label, report in reports.items() if (curve := _curve(report, "symmetric"))}
    known, originals = list(models.values()), {}
    for label, report in reports.items():
        curve = _curve(report, "original")
        if curve and curve not in known:
            known.append(curve)
            originals[label] = curve
    several = len(originals) > 1
    return models, {f"original of {label}" if several else "original": curve for label, curve in originals.items()}


def size_quality(reports: Mapping[str, Report]) -> dict[str, list[tuple[float, float]]]:
    """Return (bytes, mAP) of every step of each model for which both are known, the model itself last."""
    points = {}
    for label, report in reports.items():
        size, quality = report.figures.get("storage.file"), report.figures.get("quality.map")
        if size and quality:
            steps = [(size, value) for _, size, value in file_ledger(report)[:-1] if value is not None]
            points[label] = [*steps, (size.value, quality.value)]
    return points


def original_point(reports: Mapping[str, Report]) -> tuple[float, float] | None:
    """Return (bytes in float32, mAP) of the network that the models were made from; None without it, or if they differ."""
    found = set()
    for report in reports.values():
        entry, size = report.quality.get("original"), report.figures.get("storage.fp32")
        if isinstance(entry, Mapping) and size and isinstance(entry.get("map"), float):
            found.add((size.value, entry["map"]))
    return found.pop() if len(found) == 1 else None


def _curve(report: Report, side: str) -> Curve | None:
    entry = report.quality.get(side)
    if not isinstance(entry, Mapping):
        return None
    return tuple(entry["curve_recall"]), tuple(entry["curve_precision"])


def flips_per_bit(report: Report) -> list[float]:
    """Return the share of inputs for which each bit flipped; empty without an original network."""
    flips = report.quality.get("flips")
    per_bit = flips.get("per_bit") if isinstance(flips, Mapping) else None
    return list(per_bit) if isinstance(per_bit, list) else []


def margin_histogram(report: Report) -> list[tuple[str, int, int]]:
    """Return (range of the margin, bits, flipped bits) for every range that has bits; a range begins where the last ends."""
    flips = report.quality.get("flips")
    entry = flips.get("margins") if isinstance(flips, Mapping) else None
    rows = entry if isinstance(entry, list) else []
    return [
        (
            f"to {row['high']:g}" if row["high"] is not None else f"from {row['low']:g}",
            row["outputs"],
            row["flipped"],
        )
        for row in rows
        if row["outputs"]
    ]


def file_ledger(report: Report) -> list[tuple[str, float, float | None]]:
    """Return (step, bytes of the file after it, mAP or None) for every step of the history."""
    states: list[tuple[str, float, float | None]] = []
    last = "start"
    for step in report.history:
        before = _figures(step.get("before"))
        if "bytes" in before:
            states.append((last, before["bytes"], before.get("map")))
        last = str(step.get("name", "?"))
    whole, quality = report.figures.get("storage.file"), report.figures.get("quality.map")
    return [*states, (last, whole.value, quality.value if quality else None)] if whole else states


def _figures(value: Any) -> dict[str, float]:
    return dict(value) if isinstance(value, Mapping) else {}
