"""Plots of a report page as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from ...core.units import format_bytes, format_ms
from .svg import INK, SERIES, axes, inline, styled

_WIDTH = 8.6
Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # label -> (x, y)


@styled
def stacked(bars: Mapping[str, Mapping[str, float]], name: str, title: str) -> str:
    """Return one horizontal bar of bytes per report, stacked by class and labelled with the total."""
    groups = list(dict.fromkeys(group for parts in bars.values() for group in parts))
    figure, (plot,) = axes(_WIDTH, 0.9 + 0.45 * len(bars))
    left = dict.fromkeys(bars, 0.0)
    for place, group in enumerate(groups):
        sizes = [parts.get(group, 0.0) for parts in bars.values()]
        plot.barh(list(bars), sizes, left=list(left.values()), height=0.62, color=_colour(place), label=group)
        left = {label: start + size for (label, start), size in zip(left.items(), sizes, strict=True)}
    for label, total in left.items():
        plot.annotate(format_bytes(total), (total, label), xytext=(4, 0), textcoords="offset points", va="center")
    plot.invert_yaxis()
    plot.grid(axis="y", visible=False)
    plot.margins(x=0.12)
    plot.set_xlim(left=0)
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    figure.legend(*plot.get_legend_handles_labels(), loc="outside lower left", ncols=9, fontsize=8, handlelength=1)
    return inline(figure, name, title)


@styled
def layer_times(bars: Mapping[str, Mapping[str, float]], name: str, title: str, top: int = 24) -> str:
    """Return horizontal bars of milliseconds: one group per layer in network order, one bar per report."""
    layers = list(dict.fromkeys(layer for costs in bars.values() for layer in costs))
    heaviest = sorted(layers, key=lambda layer: -max(costs.get(layer, 0.0) for costs in bars.values()))[:top]
    shown = [layer for layer in layers if layer in heaviest]
    figure, (plot,) = axes(_WIDTH, 0.8 + max(0.22, 0.13 * len(bars)) * len(shown))
    height = 0.8 / len(bars)
    for place, (label, costs) in enumerate(bars.items()):
        rows = [row + (place - (len(bars) - 1) / 2) * height for row in range(len(shown))]
        values = [costs.get(layer, 0.0) for layer in shown]
        plot.barh(rows, values, height=height * 0.92, color=_colour(place), label=label)
    plot.set_yticks(range(len(shown)), [_short(layer) for layer in shown], fontsize=7.5)
    plot.set_ylim(len(shown) - 0.5, -0.5)
    plot.grid(axis="y", visible=False)
    plot.set_xlim(left=0)
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_ms(value) if value else "0"))
    if len(bars) > 1:
        figure.legend(*plot.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=8)
    return inline(figure, name, title)


@styled
def precision_recall(curves: Curves, name: str, title: str) -> str:
    """Return precision against recall: one point per Hamming radius, one line per report."""
    figure, (plot,) = axes(5.4, 3.4)
    for place, (label, (recall, precision)) in enumerate(curves.items()):
        plot.plot(recall, precision, marker="o", markersize=2.6, linewidth=1.4, color=_colour(place), label=label)
    plot.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.03))
    _percent(plot, x=True)
    plot.legend(fontsize=8)
    return inline(figure, name, title)


@styled
def margins(histograms: Mapping[str, Sequence[tuple[str, int, int]]], name: str, title: str) -> str:
    """Return the number of bits and of flipped bits in each range of the margin, one panel per report."""
    figure, plots = axes(_WIDTH, 2.5 * len(histograms), rows=len(histograms))
    for plot, (label, rows) in zip(plots, histograms.items(), strict=True):
        places = range(len(rows))
        plot.bar(places, [bits for _, bits, _ in rows], width=0.8, color=_colour(0), label="all bits")
        plot.bar(places, [flipped for _, _, flipped in rows], width=0.8, color=_colour(1), label="flipped bits")
        for place, (_, bits, flipped) in enumerate(rows):
            percent = 100 * flipped / bits
            share = f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
            plot.annotate(share, (place, bits), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8)
        plot.set_yscale("symlog", linthresh=1)
        plot.margins(y=0.15)
        plot.set_ylim(bottom=0)
        plot.set_xticks(places, [text for text, _, _ in rows], fontsize=8)
        plot.set(xlabel="|output| of the original network", ylabel="bits", title=label if len(histograms) > 1 else "")
        plot.grid(axis="x", visible=False)
        plot.legend(fontsize=8, loc="upper left")
    return inline(figure, name, title)


@styled
def bit_flips(flips: Mapping[str, Sequence[float]], name: str, title: str) -> str:
    """Return the share of inputs for which each bit flipped, one panel per report, with the mean as a line."""
    figure, plots = axes(_WIDTH, 1.9 * len(flips), rows=len(flips))
    for plot, (label, shares) in zip(plots, flips.items(), strict=True):
        plot.bar(range(len(shares)), shares, color=_colour(0), width=0.8)
        mean = sum(shares) / max(len(shares), 1)
        plot.axhline(mean, color=INK, linewidth=0.8, linestyle="--")
        plot.set_title(f"mean {100 * mean:.3g} %", loc="right", fontsize=8)
        plot.set(xlabel="bit", title=label if len(flips) > 1 else "", xlim=(-0.6, len(shares) - 0.4))
        plot.grid(axis="x", visible=False)
        _percent(plot, x=False)
    return inline(figure, name, title)


@styled
def ledger(steps: Sequence[tuple[str, float, float | None]], name: str, title: str) -> str:
    """Return two panels, file bytes and mAP after every step, for ``steps`` of (name, bytes, mAP or None)."""
    figure, (sizes, quality) = axes(_WIDTH, 0.9 + 0.36 * len(steps), columns=2)
    rows = range(len(steps))
    bars = sizes.barh(rows, [size for _, size, _ in steps], color=_colour(0), height=0.62)
    sizes.bar_label(bars, [format_bytes(size) for _, size, _ in steps], fontsize=8, padding=3)
    sizes.margins(x=0.2)
    sizes.set_xlim(left=0)
    sizes.xaxis.set_major_locator(MaxNLocator(5))
    sizes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    sizes.set_title("model file")
    known = [(value, row) for row, (_, _, value) in enumerate(steps) if value is not None]
    quality.plot([value for value, _ in known], [row for _, row in known], color=_colour(1), marker="o", markersize=5)
    for value, row in known:
        quality.annotate(
            f"{value:.4f}", (value, row), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8
        )
    quality.margins(x=0.25)
    quality.xaxis.set_major_locator(MaxNLocator(5))
    quality.set_title("mAP")
    sizes.set_yticks(rows, [label for label, _, _ in steps])
    quality.set_yticks(rows, [""] * len(steps))
    for plot in (sizes, quality):
        plot.set_ylim(len(steps) - 0.5, -0.5)
        plot.grid(axis="y", visible=False)
    return inline(figure, name, title)


def _colour(place: int) -> str:
    return SERIES[place % len(SERIES)]


def _percent(plot: Axes, x: bool) -> None:
    plot.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    if x:
        plot.xaxis.set_major_formatter(PercentFormatter(1))


def _short(text: str, width: int = 44) -> str:
    return text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width // 2) :]}"
