"""Data of the plots, extracted from the evaluation and history of a report; empty if a report has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..report import Report

Curve = tuple[Sequence[float], Sequence[float]]


def precision_recall(label: str, report: Report) -> Iterator[tuple[str, Curve]]:
    """Yield (label, (recall, precision)) for the model, and for the original network if it was evaluated."""
    for side, suffix in (("symmetric", ""), ("original", " (original)")):
        entry = report.quality.get(side)
        if isinstance(entry, Mapping):
            yield f"{label}{suffix}", (entry["curve_recall"], entry["curve_precision"])


def flips_per_bit(report: Report) -> list[float]:
    """Return the share of inputs for which each bit flipped; empty without an original network."""
    flips = report.quality.get("flips")
    per_bit = flips.get("per_bit") if isinstance(flips, Mapping) else None
    return list(per_bit) if isinstance(per_bit, list) else []


def margin_histogram(report: Report) -> list[tuple[str, int, int]]:
    """Return (range of the margin, bits, flipped bits) for every range that has bits."""
    flips = report.quality.get("flips")
    entry = flips.get("margins") if isinstance(flips, Mapping) else None
    rows = entry if isinstance(entry, list) else []
    return [
        (
            f"{row['low']:g}-{row['high']:g}" if row["high"] is not None else f"from {row['low']:g}",
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
