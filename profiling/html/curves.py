"""What a page draws, taken out of a report's evaluation and provenance; absent where a report has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..report import Report

Curve = tuple[Sequence[float], Sequence[float]]


def precision_recall(label: str, report: Report) -> Iterator[tuple[str, Curve]]:
    """Yield (label, (recall, precision)) for the model, and for the original network where it was evaluated."""
    for side, suffix in (("symmetric", ""), ("original", " (original)")):
        found = report.quality.get(side)
        if isinstance(found, Mapping):
            yield f"{label}{suffix}", (found["curve_recall"], found["curve_precision"])


def flips_per_bit(report: Report) -> list[float]:
    """Return the share of inputs for which each bit flipped."""
    flips = report.quality.get("flips")
    per_bit = flips.get("per_bit") if isinstance(flips, Mapping) else None
    return list(per_bit) if isinstance(per_bit, list) else []


def margin_histogram(report: Report) -> list[tuple[str, int, int]]:
    """Return (range of the margin, bits, flipped bits) for every range that holds bits."""
    flips = report.quality.get("flips")
    found = flips.get("margins") if isinstance(flips, Mapping) else None
    rows = found if isinstance(found, list) else []
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
    """Return (step, bytes of the file behind it, mAP or None): steps record what was before them, the report the end."""
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
