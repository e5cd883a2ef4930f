"""Conversion of Matplotlib figures to inline SVG that follows the light or dark colours of the page.

Figures are drawn in placeholder colours that are replaced by CSS variables. Text stays text, identifiers get the name
of the plot as a prefix because a page has several plots, and the same data gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

INK, FAINT = "#010101", "#020202"
SERIES = tuple(f"#0a0a0{place}" for place in range(1, 10))  # of models
CLASSES = tuple(f"#0b0b0{place}" for place in range(1, 10))  # of bytes; a colour means one thing on the page
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)"}
_VARIABLES |= {colour: f"var(--series-{place})" for place, colour in enumerate(SERIES, start=1)}
_VARIABLES |= {colour: f"var(--class-{place})" for place, colour in enumerate(CLASSES, start=1)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hashpress",
    "text.parse_math": False,  # names of models may have dollar signs
    "font.size": 9.0,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
}


def styled(draw: Callable[Arguments, str]) -> Callable[Arguments, str]:
    """Decorate a drawing function to run with the style of the page."""

    @wraps(draw)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> str:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapper


def axes(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``width`` x ``height`` inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, list(grid.flat)


def inline(figure: Figure, name: str, title: str) -> str:
    """Return ``figure`` as an ``<svg>`` element whose text alternative is ``title``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;]*; ", "", text)  # the page's own
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening(title), text, count=1)
    return text.replace("xlink:href", "href").strip()


def _opening(title: str) -> str:
    safe = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("\\", "")
    return rf'<svg viewBox="\1" role="img" aria-label="{safe}">'


def css_colour(colour: str) -> str:
    """Return the CSS value that stands for a placeholder colour on the page: ``var(--series-1)``."""
    return _VARIABLES[colour]
