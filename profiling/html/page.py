"""HTML page of one or several reports: key figures, plots, a table of all figures, and the history of each model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...core.errors import ReportError
from ...core.files import atomic_write
from ..metrics import METRICS
from ..report import Report, show_metric
from .drawings import drawings
from .plots import colours_of
from .svg import css_colour
from .tiles import models

_HERE = Path(__file__).parent


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
    by_label = dict(zip(labels, reports, strict=True))
    return environment.get_template("page.html").render(
        title=" · ".join(labels),
        labels=labels,
        places=dict.fromkeys(_device_text(report) for report in reports),
        reports=[_template_values(report) for report in reports],
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        models=models(by_label, [css_colour(colour) for colour in colours_of(labels).values()]),
        noise=_noise(by_label),
        plots=list(drawings(by_label)),
        rows=_rows(reports),
        version=version("hashpress"),
    )


def _device_text(report: Report) -> str:
    return f"{report.device}: {report.machine.get('cpu') or 'unknown processor'}, target {report.target}"


def _noise(reports: Mapping[str, Report]) -> list[str]:
    """Return the reasons for noisy times, each with the models that it holds for unless it holds for all."""
    found: dict[str, list[str]] = {}
    for label, report in reports.items():
        for reason in report.noise:
            found.setdefault(reason, []).append(label)
    return [
        reason if len(labels) == len(reports) else f"{', '.join(labels)}: {reason}" for reason, labels in found.items()
    ]


def _labels(reports: Sequence[Report]) -> list[str]:
    names = [report.name for report in reports]
    return [name if names.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(names, start=1)]


def _rows(reports: Sequence[Report]) -> list[dict[str, Any]]:
    rows = []
    for name in (name for name in METRICS if any(name in report.figures for report in reports)):
        figures = [report.figures.get(name) for report in reports]
        for kind in dict.fromkeys(figure.kind for figure in figures if figure):
            cells = [show_metric(name, figure.value) if figure and figure.kind == kind else "" for figure in figures]
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
    if isinstance(value, Mapping):
        return f"({_brief(value)})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
