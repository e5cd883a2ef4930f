"""hashpress check: compare a report with a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import print_json

NAME = "check"
EXAMPLES = options.examples(
    "check report.json --budget budget.toml",
    "check report.json --budget budget.toml --baseline main.json --why",
    "check report.json --budget budget.toml --format markdown >> $GITHUB_STEP_SUMMARY",
)


def verb(
    *,
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="Report written by hashpress profile.")],
    budget: Annotated[Path, typer.Option("--budget", metavar="FILE", help="TOML file with limits.")],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="REPORT", help="Report that relative limits (+5 %) refer to.")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="List the largest contributors to each excess.")] = False,
    style: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME", help="Output format: text, markdown (summary table) or github (annotations)."
        ),
    ] = "text",
    json: options.Json = False,
) -> int:
    """Compare a report with a budget. The exit code is 3 if a limit of level error is exceeded, otherwise 0."""
    from ..core.errors import OverBudgetError, lookup
    from ..profiling.budget import check, load_budget
    from ..profiling.ci import STYLES
    from ..profiling.report import load_report

    write = lookup(STYLES, style, "format")
    limits = load_budget(budget)
    measured, reference = load_report(report), load_report(baseline) if baseline else None
    excesses = check(measured, limits, reference)
    if json:
        print_json([excess.to_json() for excess in excesses])
    else:
        sys.stdout.write(write(measured, excesses, reference, why))
    errors = [excess for excess in excesses if excess.level == "error"]
    if errors:
        raise OverBudgetError(f"over budget: {'; '.join(map(str, errors))}")
    return 0
