"""The plots of a report page, in their order; what no report has data for is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..report import GROUPS, Report
from . import plots
from .curves import file_ledger, flips_per_bit, margin_histogram, original_point, precision_recall, size_quality


@dataclass(frozen=True)
class Plot:
    """An SVG plot with a title and a caption, in a wide and in a slim form."""

    title: str
    text: str
    svg: str
    slim: str
    narrow: bool = False


def drawings(reports: Mapping[str, Report]) -> Iterator[Plot]:
    """Yield the plots of reports by label."""
    colours = plots.colours_of(list(reports))
    yield from _sizes(reports, colours)
    yield from _times(reports, colours)
    yield from _quality(reports, colours)
    for place, (label, report) in enumerate(reports.items()):
        steps = file_ledger(report)
        if len(steps) > 1:
            title = f"Size and quality by step, {label}" if len(reports) > 1 else "Size and quality by step"
            draw = partial(plots.ledger, steps, colours[label])
            text = "Size of the model file after every step of the recipe, and mAP if it was measured."
            yield _both(title, text, draw, f"ledger{place}", "file size and quality after every step")


def _sizes(reports: Mapping[str, Report], colours: Mapping[str, str]) -> Iterator[Plot]:
    points, original = size_quality(reports), original_point(reports)
    if sum(map(len, points.values())) + bool(original) > 1 and points:
        draw = partial(plots.size_quality, points, original, colours)
        text = "mAP against the size of the model file; dots are the steps that led to a model. Up and left is better."
        yield _both("Size against quality", text, draw, "sizequality", "mAP against bytes of the model file")
    used = [group for group in GROUPS if any(part.group == group for one in reports.values() for part in one.parts)]
    if used:
        draw = partial(plots.stacked, {label: _groups(report, used) for label, report in reports.items()})
        text = "All bytes of the bundle; the classes add up to the sizes of its files."
        yield _both("Storage by class", text, draw, "storage", "bytes of the bundle by class")


def _times(reports: Mapping[str, Report], colours: Mapping[str, str]) -> Iterator[Plot]:
    times = {label: costs for label, report in reports.items() if (costs := _layers(report))}
    if times:
        draw = partial(plots.layer_times, times, colours)
        text = "Median time for one input; the slowest kernels, in network order."
        yield _both("Latency by layer", text, draw, "layers", "milliseconds per kernel")


def _quality(reports: Mapping[str, Report], colours: Mapping[str, str]) -> Iterator[Plot]:
    curves, originals = precision_recall(reports)
    if curves:
        draw = partial(plots.precision_recall, curves, originals, colours)
        text = "One point per Hamming radius, from 0 upwards."
        yield _both("Precision and recall", text, draw, "curve", "precision against recall", narrow=True)
    histograms = {label: hist for label, report in reports.items() if (hist := margin_histogram(report))}
    if histograms:
        draw = partial(plots.margins, histograms, colours)
        text = (
            "|output| of the original network; bits with a large margin should not flip. Labels: share of flipped bits."
        )
        yield _both("Margins", text, draw, "margins", "margins of all and of flipped bits")
    flips = {label: bits for label, report in reports.items() if (bits := flips_per_bit(report))}
    if flips:
        draw = partial(plots.bit_flips, flips, colours)
        text = "Share of inputs for which the bit differs from the original network."
        yield _both("Bit flips", text, draw, "flips", "share of inputs for which each bit flipped")


def _both(title: str, text: str, draw: Callable[..., str], name: str, about: str, narrow: bool = False) -> Plot:
    return Plot(title, text, draw(name, about), draw(f"{name}-slim", about, slim=True), narrow)


def _groups(report: Report, used: Sequence[str]) -> dict[str, float]:
    return {group: float(sum(part.bytes for part in report.parts if part.group == group)) for group in used}


def _layers(report: Report) -> dict[str, float]:
    costs: dict[str, float] = {}
    for layer in report.layers:
        if layer.cost.kind == "measured":
            costs[layer.name] = costs.get(layer.name, 0.0) + layer.cost.value
    return costs
