"""HTML page of one or several reports: key figures, plots, a table of all figures, and the history of each model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...core.errors import ReportError
from ...core.files import atomic_write
from ...core.units import format_bytes
from ..metrics import METRICS
from ..report import GROUPS, Report
from . import plots
from .curves import file_ledger, flips_per_bit, margin_histogram, precision_recall

_HERE = Path(__file__).parent
_TILES = {
    "storage.file": "model file",
    "latency.p50": "median latency",
    "memory.rss": "peak memory",
    "quality.map": "mAP",
    "quality.map_drop": "mAP drop",
    "quality.bit_flips": "bits flipped",
}


@dataclass(frozen=True)
class Plot:
    """An SVG plot with a title and a caption."""

    title: str
    text: str
    svg: str
    narrow: bool = False


def render(reports: Sequence[Report], path: str | os.PathLike[str]) -> None:
    """Write ``reports`` as one self-contained HTML page, atomically.

    Raises:
        ReportError: ``reports`` is empty.
    """
    if not reports:
        raise ReportError("expected at least one report to draw, found none")
    with atomic_write(path, "w") as handle:
        handle.write(page(reports))


def page(reports: Sequence[Report]) -> str:
    """Return the HTML text of the page."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["brief"] = _brief
    labels = _labels(reports)
    return environment.get_template("page.html").render(
        title=" · ".join(labels),
        labels=labels,
        places=dict.fromkeys(_device_text(report) for report in reports),
        reports=[_template_values(report) for report in reports],
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        tiles=_tiles(reports[-1]),
        noise=dict.fromkeys(reason for report in reports for reason in report.noise),
        plots=list(_plots(dict(zip(labels, reports, strict=True)))),
        rows=_rows(reports),
        version=version("hashpress"),
    )


def _device_text(report: Report) -> str:
    return f"{report.device}: {report.machine.get('cpu') or 'unknown processor'}, target {report.target}"


def _plots(reports: Mapping[str, Report]) -> list[Plot]:
    drawn = []
    used = [
        group for group in GROUPS if any(part.group == group for report in reports.values() for part in report.parts)
    ]
    sizes = {label: _groups(report, used) for label, report in reports.items()}
    if used:
        svg = plots.stacked(sizes, "storage", "bytes of the bundle by class")
        drawn.append(
            Plot("Storage by class", "All bytes of the bundle; the classes add up to the sizes of its files.", svg)
        )
    times = {label: _layers(report) for label, report in reports.items() if report.layers}
    if times:
        svg = plots.layer_times(times, "layers", "milliseconds per kernel")
        drawn.append(Plot("Latency by layer", "Median time for one input; the slowest kernels, in network order.", svg))
    curves = {label: curve for label, report in reports.items() for label, curve in precision_recall(label, report)}
    if curves:
        svg = plots.precision_recall(curves, "curve", "precision against recall")
        drawn.append(Plot("Precision and recall", "One point per Hamming radius, from 0 upwards.", svg, narrow=True))
    histograms = {label: hist for label, report in reports.items() if (hist := margin_histogram(report))}
    if histograms:
        svg = plots.margins(histograms, "margins", "margins of all and of flipped bits")
        drawn.append(
            Plot(
                "Margins",
                "|output| of the original network; bits with a large margin should not flip. Labels: share of flipped bits.",
                svg,
            )
        )
    flips = {label: bits for label, report in reports.items() if (bits := flips_per_bit(report))}
    if flips:
        svg = plots.bit_flips(flips, "flips", "share of inputs for which each bit flipped")
        drawn.append(Plot("Bit flips", "Share of inputs for which the bit differs from the original network.", svg))
    for place, (label, report) in enumerate(reports.items()):
        steps = file_ledger(report)
        if len(steps) > 1:
            svg = plots.ledger(steps, f"ledger{place}", "file size and quality after every step")
            name = f"Size and quality, {label}" if len(reports) > 1 else "Size and quality"
            drawn.append(
                Plot(name, "Size of the model file after every step of the recipe, and mAP if it was measured.", svg)
            )
    return drawn


def _labels(reports: Sequence[Report]) -> list[str]:
    names = [report.name for report in reports]
    return [name if names.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(names, start=1)]


def _groups(report: Report, used: Sequence[str]) -> dict[str, float]:
    return {group: float(sum(part.bytes for part in report.parts if part.group == group)) for group in used}


def _layers(report: Report) -> dict[str, float]:
    costs: dict[str, float] = {}
    for layer in report.layers:
        if layer.cost.kind == "measured":
            costs[layer.name] = costs.get(layer.name, 0.0) + layer.cost.value
    return costs


def _tiles(report: Report) -> list[dict[str, str]]:
    tiles = []
    for name, what in _TILES.items():
        figure = report.figures.get(name)
        if figure is None:
            continue
        note = figure.kind
        whole = report.figures.get("storage.fp32")
        if name == "storage.file" and whole and figure.value:
            note = f"1/{whole.value / figure.value:.1f} of {format_bytes(whole.value)} fp32"
        tiles.append({"what": what, "value": str(figure), "note": note})
    return tiles


def _rows(reports: Sequence[Report]) -> list[dict[str, Any]]:
    rows = []
    for name in (name for name in METRICS if any(name in report.figures for report in reports)):
        figures = [report.figures.get(name) for report in reports]
        for kind in dict.fromkeys(figure.kind for figure in figures if figure):
            cells = [str(figure) if figure and figure.kind == kind else "" for figure in figures]
            rows.append({"name": name, "cells": cells, "kind": kind, "meaning": METRICS[name].what})
    return rows


def _template_values(report: Report) -> dict[str, Any]:
    empty: dict[str, Any] = {"settings": {}, "before": {}, "after": {}, "seed": None, "name": ""}
    return {
        **report.to_json(),
        "machine": {"cpu": None, **report.machine},
        "history": [empty | dict(step) for step in report.history],
        "decodings": report.decodings(),
    }


def _brief(value: Any, width: int = 220) -> str:
    pairs = value.items() if isinstance(value, Mapping) else []
    text = ", ".join(f"{key} {_number(entry)}" for key, entry in pairs if entry is not None)
    return text if len(text) <= width else f"{text[:width]}…"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
