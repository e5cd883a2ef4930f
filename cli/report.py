"""hashpress report: draw reports as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console

NAME = "report"
EXAMPLES = options.examples("report report.json -o report.html", "report before.json after.json -o compare.html")


def verb(
    *,
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Reports written by hashpress profile.")],
    output: options.Output = Path("report.html"),
    force: options.Force = False,
) -> None:
    """Draw one or several reports side by side as a self-contained HTML page."""
    from ..core.outputs import PAGE, check_output

    check_output(output, PAGE, [("report", path) for path in reports], force=force)
    from ..profiling.html.page import render
    from ..profiling.report import load_report

    render([load_report(path) for path in reports], output)
    console().print(str(output), markup=False)
