"""Fixture of pytest that holds a report to a budget: ``hashpress_budget(report, budget, baseline=None)``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

Path = str | os.PathLike[str]


@pytest.fixture(scope="session")
def hashpress_budget() -> Callable[..., None]:
    """Return a function that fails the test when a report is over its budget, and skips it when that is inconclusive.

    The report and the baseline are files of ``hashpress profile`` or :class:`Report` values; the budget is a TOML file or
    a table such as ``{"storage.file": "900 kB"}``. Limits of level ``warn`` become warnings.
    """
    return hold


def hold(report: Any, budget: Path | Mapping[str, Any], baseline: Any = None) -> None:
    """Fail the running test if ``report`` exceeds ``budget``.

    Raises:
        BudgetError: the budget is malformed, or limits a figure that the report lacks.
        ReportError: a file is not a report.
    """
    from .budget import check, load_budget, parse_budget  # noqa: PLC0415  # pytest loads the plugin in every run
    from .report import Report, load_report  # noqa: PLC0415

    measured = report if isinstance(report, Report) else load_report(report)
    reference = baseline if baseline is None or isinstance(baseline, Report) else load_report(baseline)
    limits = parse_budget(budget) if isinstance(budget, Mapping) else load_budget(budget)
    excesses = check(measured, limits, reference)
    errors = [excess for excess in excesses if excess.verdict == "error"]
    if errors:
        pytest.fail(
            "\n".join(line for excess in errors for line in (f"over budget: {excess}", *excess.why)), pytrace=False
        )
    for excess in excesses:
        if excess.verdict == "warn":
            import warnings  # noqa: PLC0415

            warnings.warn(f"over budget: {excess}", stacklevel=2)
    unclear = [str(excess) for excess in excesses if excess.verdict == "inconclusive" and excess.level == "error"]
    if unclear:
        pytest.skip(f"inconclusive: {'; '.join(unclear)}")
