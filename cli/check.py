"""hashpress check: compare a report with a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import print_json, warn

NAME = "check"
EXAMPLES = options.examples(
    "check report.json --budget budget.toml",
    "check report.json --budget budget.toml --baseline main.json --why",
    "check report.json --budget budget.toml --format markdown >> $GITHUB_STEP_SUMMARY",
    "check report.json --budget budget.toml --format junit > hashpress.xml",
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
            "--format",
            metavar="NAME",
            help="Output format: text, markdown (summary table), github (annotations), junit (XML) or gitlab (Code "
            "Quality JSON).",
        ),
    ] = "text",
    json: options.Json = False,
) -> int:
    """Compare a report with a budget. Exit code 3: a limit of level error is exceeded; 5: a time is, within its error."""
    from ..core.errors import InconclusiveError, OverBudgetError, lookup
    from ..profiling.budget import check, doubts, load_budget
    from ..profiling.ci import STYLES
    from ..profiling.report import load_report

    write = lookup(STYLES, style, "format")
    limits = load_budget(budget)
    measured, reference = load_report(report), load_report(baseline) if baseline else None
    excesses = check(measured, limits, reference)
    for doubt in doubts(measured, limits, reference):
        warn(doubt)
    if json:
        print_json([excess.to_json() for excess in excesses])
    else:
        sys.stdout.write(write(measured, excesses, reference, why, [limit.metric for limit in limits.limits]))
    errors = [excess for excess in excesses if excess.verdict == "error"]
    if errors:
        raise OverBudgetError(f"over budget: {'; '.join(map(str, errors))}")
    unclear = [excess for excess in excesses if excess.verdict == "inconclusive" and excess.level == "error"]
    if unclear:
        raise InconclusiveError(
            f"inconclusive: {'; '.join(map(str, unclear))}; measure again with more --processes on a quiet machine, "
            "or see what it resolves: hashpress profile --noop"
        )
    return 0
