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
        curve = found.get("curve") if isinstance(found, Mapping) else None
        if isinstance(curve, Mapping):
            yield f"{label}{suffix}", (curve["recall"], curve["precision"])


def flips_per_bit(report: Report) -> list[float]:
    """Return the share of inputs for which each bit flipped."""
    flips = report.quality.get("flips")
    per_bit = flips.get("per_bit") if isinstance(flips, Mapping) else None
    return list(per_bit) if isinstance(per_bit, list) else []


def margin_histogram(report: Report) -> dict[str, Sequence[float]]:
    """Return ``edges``, ``all`` and ``flipped`` counts of margins."""
    flips = report.quality.get("flips")
    found = flips.get("margins") if isinstance(flips, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {key: found[key] for key in ("edges", "all", "flipped")}


def file_ledger(report: Report) -> list[tuple[str, float, float | None]]:
    """Return (step, bytes of the file, mAP or None) after every step that recorded its size."""
    steps: list[tuple[str, float, float | None]] = []
    for step in report.history:
        before, after = _figures(step.get("before")), _figures(step.get("after"))
        if not steps and "bytes" in before:
            steps.append(("before", before["bytes"], before.get("map")))
        if "bytes" in after:
            steps.append((str(step.get("name", "?")), after["bytes"], after.get("map")))
    return steps


def _figures(value: Any) -> dict[str, float]:
    return dict(value) if isinstance(value, Mapping) else {}
