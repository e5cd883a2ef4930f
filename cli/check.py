"""hashpress check: hold a report to a budget."""

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
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="Written by hashpress profile.")],
    budget: Annotated[Path, typer.Option("--budget", metavar="FILE", help="Limits in TOML.")],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="REPORT", help="What relative limits (+5 %) compare with.")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Name what contributes most to each excess.")] = False,
    style: Annotated[
        str, typer.Option("--format", metavar="NAME", help="text, markdown (a CI summary) or github (annotations).")
    ] = "text",
    json: options.Json = False,
) -> int:
    """Compare a report with a budget; exit code 3 when an error limit is exceeded, 0 when only warnings are."""
    from ..core.errors import OverBudgetError, lookup
    from ..profiling.budget import check, load_budget
    from ..profiling.ci import STYLES
    from ..profiling.report import load_report

    write = lookup(STYLES, style, "format")
    limits = load_budget(budget)
    found, before = load_report(report), load_report(baseline) if baseline else None
    excesses = check(found, limits, before)
    if json:
        print_json([excess.to_json() for excess in excesses])
    else:
        sys.stdout.write(write(found, excesses, before, why))
    errors = [excess for excess in excesses if excess.level == "error"]
    if errors:
        raise OverBudgetError(f"over budget: {'; '.join(map(str, errors))}")
    return 0
