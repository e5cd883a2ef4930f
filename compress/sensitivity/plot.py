"""Plot of the curves of a sensitivity analysis."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import InputError
from ...core.files import atomic_write
from .sensitivity import Point, Sensitivity

FORMATS = (".svg", ".png", ".pdf")


def plot(found: Sensitivity, path: str | os.PathLike[str]) -> None:
    """Plot bytes saved (or MACs, for passes that never add any) against flipped bits, one panel per pass.

    Every layer is a line that starts at the original network; all panels share the scale of flips.

    Raises:
        InputError: The format is not SVG, PNG or PDF, or there is nothing to plot.
    """
    import matplotlib as mpl  # noqa: PLC0415  slow to import, and only plots need it
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    suffix = format_of(path)
    curves = found.curves()
    if not curves:
        raise InputError("there is nothing to plot: no layer could be probed")
    with mpl.rc_context({"svg.hashsalt": "hashpress", "font.size": 8}):
        figure = Figure(figsize=(5.0 * len(curves), 4.0), layout="constrained")
        panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
        for axes, (name, layers) in zip(panels, curves.items(), strict=True):
            in_macs = _saves_macs(found, [point for points in layers.values() for point in points])
            for layer, points in layers.items():
                figures = [
                    (1 - point.macs / found.macs) if in_macs else (1 - point.bytes / found.bytes) for point in points
                ]
                pairs = sorted(zip(figures, (100 * point.flips for point in points), strict=True))
                line = [(0.0, 0.0), *pairs]
                axes.plot([100 * x for x, _ in line], [y for _, y in line], marker="o", ms=3, lw=1, label=layer)
            axes.set(
                title=name, xlabel=f"{'MACs' if in_macs else 'bytes'} saved, % of the network", ylabel="bits flipped, %"
            )
            axes.set_ylim(bottom=0)
            axes.grid(visible=True, lw=0.3)
            if len(layers) <= 12:
                axes.legend(fontsize=6)
        with atomic_write(path) as handle:
            figure.savefig(handle, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else None)


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a plot file.

    Raises:
        InputError: The format is not SVG, PNG or PDF.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"a plot is {', '.join(FORMATS)}, not {suffix or 'a file without a suffix'}")
    return suffix


def _saves_macs(found: Sensitivity, points: Sequence[Point]) -> bool:
    """Return whether a pass reduces multiply-accumulates: integers do not, look-up tables may add some."""
    least, most = min(point.macs for point in points), max(point.macs for point in points)
    return least < found.macs and most <= found.macs
