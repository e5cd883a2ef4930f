"""Plots of a report page as inline SVG, each in a wide form and in a slim one for telephones.

A model keeps its colour on the whole page: ``colours`` are those of the models by label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    SymmetricalLogLocator,
)

from ...core.units import format_bytes, format_ms
from .svg import CLASSES, FAINT, INK, SERIES, axes, inline, styled

WIDE, SLIM = 8.6, 4.1  # inches
_MARKERS = "osD^vPXhp"
_CHARACTER = 0.075  # inches of a character in a legend
Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # label -> (x, y)
Colours = Mapping[str, str]


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """Return the colour of each model."""
    return {label: SERIES[place % len(SERIES)] for place, label in enumerate(labels)}


@styled
def stacked(bars: Mapping[str, Mapping[str, float]], name: str, title: str, slim: bool = False) -> str:
    """Return one horizontal bar of bytes per report, stacked by class and labelled with the total."""
    groups = list(dict.fromkeys(group for parts in bars.values() for group in parts))
    rows = range(len(bars))
    figure, (plot,) = axes(SLIM if slim else WIDE, (1.5 if slim else 0.9) + 0.45 * len(bars))
    left = [0.0] * len(bars)
    handles: dict[str, Artist] = {}
    for place, group in enumerate(groups):
        sizes = [parts.get(group, 0.0) for parts in bars.values()]
        handles[group] = plot.barh(rows, sizes, left=left, height=0.62, color=CLASSES[place % len(CLASSES)])[0]
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    for row, total in zip(rows, left, strict=True):
        plot.annotate(format_bytes(total), (total, row), xytext=(4, 0), textcoords="offset points", va="center")
    plot.set_yticks(rows, [_short(label, 16 if slim else 34) for label in bars])
    plot.invert_yaxis()
    plot.grid(axis="y", visible=False)
    plot.set_xlim(0, max(*left, 1.0) * (1.3 if slim else 1.14))
    _bytes_axis(plot, slim)
    _legend_below(figure, handles, slim)
    return inline(figure, name, title)


@styled
def layer_times(
    bars: Mapping[str, Mapping[str, float]],
    colours: Colours,
    name: str,
    title: str,
    slim: bool = False,
    top: int = 24,
) -> str:
    """Return horizontal bars of milliseconds: one group per layer in network order, one bar per report."""
    layers = list(dict.fromkeys(layer for costs in bars.values() for layer in costs))
    heaviest = sorted(layers, key=lambda layer: -max(costs.get(layer, 0.0) for costs in bars.values()))[:top]
    shown = [layer for layer in layers if layer in heaviest]
    figure, (plot,) = axes(SLIM if slim else WIDE, 0.9 + max(0.22, 0.13 * len(bars)) * len(shown))
    height = 0.8 / len(bars)
    handles: dict[str, Artist] = {}
    for place, (label, costs) in enumerate(bars.items()):
        rows = [row + (place - (len(bars) - 1) / 2) * height for row in range(len(shown))]
        values = [costs.get(layer, 0.0) for layer in shown]
        handles[label] = plot.barh(rows, values, height=height * 0.92, color=colours[label])[0]
    plot.set_yticks(range(len(shown)), [_short(layer, 20 if slim else 44) for layer in shown], fontsize=7.5)
    plot.set_ylim(len(shown) - 0.5, -0.5)
    plot.grid(axis="y", visible=False)
    plot.set_xlim(left=0)
    plot.xaxis.set_major_locator(MaxNLocator(3 if slim else 7))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_ms(value) if value else "0"))
    if len(bars) > 1:
        _legend_below(figure, handles, slim)
    return inline(figure, name, title)


@styled
def size_quality(
    points: Mapping[str, Sequence[tuple[float, float]]],
    original: tuple[float, float] | None,
    colours: Colours,
    name: str,
    title: str,
    slim: bool = False,
) -> str:
    """Return mAP against bytes of the model file: a large marker per model, small ones for the steps that led to it."""
    figure, (plot,) = axes(SLIM if slim else WIDE, 3.4)
    handles: dict[str, Artist] = {}
    for place, (label, steps) in enumerate(points.items()):
        sizes, maps = [size for size, _ in steps], [value for _, value in steps]
        if len(steps) > 1:
            plot.plot(sizes, maps, color=colours[label], linewidth=0.8, linestyle=":", marker=".", markersize=4)
        marker = _MARKERS[place % len(_MARKERS)]
        (handles[label],) = plot.plot(
            sizes[-1:], maps[-1:], color=colours[label], marker=marker, markersize=7, linestyle=""
        )
    if original:
        style: dict[str, Any] = {"color": INK, "fillstyle": "none", "linestyle": ""}
        (handles["original, float32"],) = plot.plot(original[:1], original[1:], marker="o", markersize=7, **style)
    everything = [size for steps in points.values() for size, _ in steps] + ([original[0]] if original else [])
    if max(everything) > 8 * min(everything) > 0:
        plot.set_xscale("log")
        plot.margins(x=0.12)
    _bytes_axis(plot, slim)
    plot.margins(y=0.15)
    plot.yaxis.set_major_locator(MaxNLocator(5))
    plot.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    plot.set(xlabel="model file", ylabel="mAP")
    _legend_below(figure, handles, slim)
    return inline(figure, name, title)


@styled
def precision_recall(
    curves: Curves, original: Curves, colours: Colours, name: str, title: str, slim: bool = False
) -> str:
    """Return precision against recall: one point per Hamming radius, one line per report, originals dashed."""
    figure, (plot,) = axes(SLIM if slim else 6.4, 3.4 + 0.16 * len(curves))
    handles: dict[str, Artist] = {}
    for label, (recall, precision) in curves.items():
        (handles[label],) = plot.plot(
            recall, precision, marker="o", markersize=2.6, linewidth=1.4, color=colours[label]
        )
    for label, (recall, precision) in original.items():
        (handles[label],) = plot.plot(recall, precision, linewidth=1.1, linestyle="--", color=INK)
    plot.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.03))
    _percent(plot, x=True)
    _legend_below(figure, handles, slim, width=SLIM if slim else 6.4)
    return inline(figure, name, title)


@styled
def margins(
    histograms: Mapping[str, Sequence[tuple[str, int, int]]],
    colours: Colours,
    name: str,
    title: str,
    slim: bool = False,
) -> str:
    """Return the number of bits and of flipped bits in each range of the margin, one panel per report."""
    figure, plots = axes(SLIM if slim else WIDE, 2.6 * len(histograms), rows=len(histograms))
    for plot, (label, rows) in zip(plots, histograms.items(), strict=True):
        places = range(len(rows))
        plot.bar(places, [bits for _, bits, _ in rows], width=0.8, color=colours[label], alpha=0.35, label="all bits")
        plot.bar(places, [flipped for _, _, flipped in rows], width=0.8, color=colours[label], label="flipped bits")
        for place, (_, bits, flipped) in enumerate(rows):
            percent = 100 * flipped / bits
            crowded = slim and len(rows) > 6
            plot.annotate(
                f"{percent:.0f} %" if percent >= 10 else f"{percent:.1g} %",
                (place, bits),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7 if crowded else 8,
                rotation=90 if crowded else 0,
            )
        plot.set_yscale("symlog", linthresh=1)
        plot.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
        plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        plot.set_ylim(0, 30 * max(*(bits for _, bits, _ in rows), 1) ** (1.2 if slim else 1))
        turned = slim and len(rows) > 4
        plot.set_xticks(places, [text for text, _, _ in rows], fontsize=7 if slim else 8, rotation=90 if turned else 0)
        plot.set(xlabel="|output| of the original network", ylabel="bits", title=_panel(label, histograms, slim))
        plot.grid(axis="x", visible=False)
        plot.legend(fontsize=8, loc="upper left", ncols=1 if slim else 2)
    return inline(figure, name, title)


@styled
def bit_flips(flips: Mapping[str, Sequence[float]], colours: Colours, name: str, title: str, slim: bool = False) -> str:
    """Return the share of inputs for which each bit flipped, one panel per report, with the mean as a line."""
    figure, plots = axes(SLIM if slim else WIDE, 2.0 * len(flips), rows=len(flips))
    for plot, (label, shares) in zip(plots, flips.items(), strict=True):
        plot.bar(range(len(shares)), shares, color=colours[label], width=0.8)
        mean = sum(shares) / max(len(shares), 1)
        plot.axhline(mean, color=INK, linewidth=0.8, linestyle="--")
        plot.set_title(f"mean {100 * mean:.3g} %", loc="right", fontsize=8)
        plot.set(xlabel="bit", title=_panel(label, flips, slim), xlim=(-0.6, len(shares) - 0.4))
        plot.grid(axis="x", visible=False)
        plot.yaxis.set_major_locator(MaxNLocator(4))
        _percent(plot, x=False)
    return inline(figure, name, title)


@styled
def ledger(
    steps: Sequence[tuple[str, float, float | None]], colour: str, name: str, title: str, slim: bool = False
) -> str:
    """Return two panels, file bytes and mAP after every step, for ``steps`` of (name, bytes, mAP or None)."""
    height = 0.9 + 0.36 * len(steps)
    rows = range(len(steps))
    panels = (2, 1) if slim else (1, 2)
    figure, (sizes, quality) = axes(SLIM if slim else WIDE, 2 * height if slim else height, *panels)
    bars = sizes.barh(rows, [size for _, size, _ in steps], color=colour, height=0.62)
    sizes.bar_label(bars, [format_bytes(size) for _, size, _ in steps], fontsize=8, padding=3)
    sizes.margins(x=0.2)
    sizes.set_xlim(left=0)
    _bytes_axis(sizes, slim)
    sizes.set_title("model file")
    known = [(value, row) for row, (_, _, value) in enumerate(steps) if value is not None]
    quality.plot([value for value, _ in known], [row for _, row in known], color=colour, marker="o", markersize=5)
    for value, row in known:
        quality.annotate(
            f"{value:.4f}", (value, row), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8
        )
    quality.margins(x=0.25)
    quality.xaxis.set_major_locator(MaxNLocator(3 if slim else 5))
    quality.set_title("mAP")
    names = [_short(label, 16 if slim else 24) for label, _, _ in steps]
    sizes.set_yticks(rows, names)
    quality.set_yticks(rows, names if slim else [""] * len(steps))
    for plot in (sizes, quality):
        plot.set_ylim(len(steps) - 0.5, -0.5)
        plot.grid(axis="y", visible=False)
    return inline(figure, name, title)


def _legend_below(figure: Figure, handles: Mapping[str, Artist], slim: bool, width: float | None = None) -> None:
    """Draw a legend below the plot with as many columns as the longest label leaves room for."""
    width = width or (SLIM if slim else WIDE)
    texts = [_short(label, 30 if slim else 60) for label in handles]
    columns = max(1, int((width - 0.2) / (0.35 + _CHARACTER * max(map(len, texts)))))
    figure.legend(
        list(handles.values()),
        texts,
        loc="outside lower left",
        ncols=min(columns, len(texts)),
        fontsize=8,
        handlelength=1.4,
        columnspacing=1.2,
    )


def _bytes_axis(plot: Axes, slim: bool) -> None:
    log = plot.get_xscale() == "log"
    plot.xaxis.set_major_locator(
        LogLocator(10, (1, 2, 5), numticks=5 if slim else 9) if log else MaxNLocator(3 if slim else 6)
    )
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    plot.xaxis.set_minor_formatter(NullFormatter())
    plot.tick_params(axis="x", which="minor", color=FAINT)


def _panel(label: str, panels: Mapping[str, object], slim: bool) -> str:
    return _short(label, 28 if slim else 60) if len(panels) > 1 else ""


def _percent(plot: Axes, x: bool) -> None:
    plot.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    if x:
        plot.xaxis.set_major_formatter(PercentFormatter(1))


def _short(text: str, width: int = 44) -> str:
    return text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width // 2) :]}"
