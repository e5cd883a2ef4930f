"""Tiles of a report page: the key figures of every model, each with its change against the first model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.units import format_bytes
from ..ci import change
from ..comparable import mismatch
from ..metrics import METRICS
from ..report import Report, show_metric

TILES = {
    "storage.file": "model file",
    "latency.p50": "median latency",
    "memory.network": "memory of the network",
    "memory.rss": "memory of the process",
    "quality.map": "mAP",
    "quality.map_drop": "mAP drop",
    "quality.bit_flips": "bits flipped",
}


def models(reports: Mapping[str, Report], css_colours: Sequence[str]) -> list[dict[str, Any]]:
    """Return label, colour and tiles of every model."""
    first = next(iter(reports.values()))
    return [
        {
            "label": label,
            "colour": colour,
            "tiles": [_tile(name, report, first) for name in TILES if name in report.figures],
        }
        for (label, report), colour in zip(reports.items(), css_colours, strict=True)
    ]


def _tile(name: str, report: Report, first: Report) -> dict[str, str]:
    figure = report.figures[name]
    tile = {
        "what": TILES[name],
        "value": show_metric(name, figure.value),
        "note": _note(name, report),
        "change": "",
        "verdict": "",
    }
    if report is not first and name in first.figures:
        tile["change"] = change(name, report, first)
        before, compares = first.figures[name].value, mismatch(name, report, first) is None
        if compares and before != figure.value and not tile["change"].startswith(("+0.0 %", "-0.0 %", "0 ")):
            better = (figure.value > before) == METRICS[name].more_is_better
            tile["verdict"] = "good" if better else "bad"
    return tile


def _note(name: str, report: Report) -> str:
    """Return what stands below a figure: its kind, or what it is a part of."""
    figures = report.figures
    figure, whole, idle = figures[name], figures.get("storage.fp32"), figures.get("memory.idle")
    if name == "storage.file" and whole and figure.value:
        return f"1/{whole.value / figure.value:.1f} of {format_bytes(whole.value)} fp32"
    if name == "memory.rss" and idle:
        return f"interpreter {format_bytes(idle.value)}"
    if name == "latency.p50" and report.timing.get("between") is not None:
        return f"±{100 * report.timing['between']:.2g} % between processes"
    return figure.kind
