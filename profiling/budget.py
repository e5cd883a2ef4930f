"""Budgets: limits with units on the figures of a report, read from a TOML file.

    storage.file = "900 kB"
    latency.p50 = { limit = "12 ms", level = "warn" }
    quality.map_drop = "1 point"
    storage.library = "+5 %"        # against the baseline report

A limit is an upper bound, or a lower bound for figures where more is better (quality.map).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BudgetError, HashpressError
from ..core.units import format_points
from .blame import blame
from .comparable import mismatch
from .limits import LEVELS, Limit, entries, parse_limit
from .metrics import METRICS
from .report import Figure, Report, show, show_metric
from .uncertainty import paired, uncertain

_LEFT = {"quality.map_drop": "quality.map", "quality.map_drop_asymmetric": "quality.map_asymmetric"}


@dataclass(frozen=True)
class Budget:
    """The limits in one budget file."""

    limits: tuple[Limit, ...]


@dataclass(frozen=True)
class Excess:
    """A figure that exceeds its limit; ``why`` lists the largest contributors.

    ``stated`` is how the budget puts a limit that is no plain number. An ``inconclusive`` excess is a time over the
    limit by less than the measurement can tell.
    """

    metric: str
    measured: Figure
    limit: float
    level: str
    why: tuple[str, ...] = ()
    stated: str = ""
    inconclusive: str = ""

    @property
    def margin(self) -> float:
        """The distance from the limit in the unit of the figure, positive."""
        return abs(self.measured.value - self.limit)

    @property
    def verdict(self) -> str:
        """``error``, ``warn`` or ``inconclusive``."""
        return "inconclusive" if self.inconclusive else self.level

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        value: dict[str, Any] = {"metric": self.metric, "measured": self.measured.value, "limit": self.limit}
        value |= {"margin": self.margin, "unit": self.measured.unit, "kind": self.measured.kind}
        value |= {"stated": self.stated, "inconclusive": self.inconclusive}
        return value | {"level": self.level, "verdict": self.verdict, "why": list(self.why)}

    def __str__(self) -> str:
        limit = show_metric(self.metric, self.limit)
        share = self.measured.unit == "share"
        margin = format_points(self.margin) if share else show_metric(self.metric, self.margin)
        side = "below" if METRICS[self.metric].more_is_better else "over"
        measured = show_metric(self.metric, self.measured.value)
        stated = f", that is {self.stated}" if self.stated else ""
        doubt = f"; inconclusive: {self.inconclusive}" if self.inconclusive else ""
        return f"{self.metric}: {measured}, budget {limit}{stated} ({margin} {side}, {self.measured.kind}){doubt}"


def load_budget(path: str | os.PathLike[str]) -> Budget:
    """Return the budget in a TOML file.

    Raises:
        BudgetError: no such file, not TOML, or any unknown metric, unit or level, all in one message.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else fault
        raise BudgetError(f"cannot read budget {path}: {reason}") from fault
    try:
        return parse_budget(table)
    except BudgetError as fault:
        raise BudgetError(f"{path}: {fault}") from fault


def parse_budget(table: Mapping[str, Any]) -> Budget:
    """Return the budget in a parsed TOML table.

    Raises:
        BudgetError: an unknown metric, unit or level, or no limit; all problems in one message.
    """
    limits: list[Limit] = []
    problems = []
    for name, entry in entries(table):
        try:
            limits.append(parse_limit(name, entry))
        except HashpressError as fault:
            problems.append(str(fault))
    names = [limit.metric for limit in limits]
    problems += [
        f"{name} has {names.count(name)} limits; keep one" for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    if not limits and not problems:
        problems.append('the budget has no limits; add one, for example: storage.file = "900 kB"')
    if problems:
        raise BudgetError("; ".join(problems))
    return Budget(tuple(limits))


def check(report: Report, budget: Budget, baseline: Report | None = None) -> tuple[Excess, ...]:
    """Return the figures of ``report`` that exceed their limits, errors before warnings.

    Raises:
        BudgetError: the report lacks a limited figure, or a limit against the baseline has none that compares; all in
            one message.
    """
    problems, excesses = [], []
    for limit in budget.limits:
        try:
            excess = _checked(report, limit, baseline)
        except BudgetError as fault:
            problems.append(str(fault))
            continue
        excesses += [excess] if excess else []
    if problems:
        raise BudgetError("; ".join(problems))
    return tuple(sorted(excesses, key=lambda excess: LEVELS.index(excess.level)))


def doubts(report: Report, budget: Budget, baseline: Report | None) -> list[str]:
    """Return warnings about limits against a baseline that was made elsewhere; such times are refused by :func:`check`."""
    found = {
        limit.metric: mismatch(limit.metric, report, baseline) for limit in budget.limits if baseline and limit.relative
    }
    return [
        f"{metric} and its baseline are of different origin: {entry.reason}"
        for metric, entry in found.items()
        if entry and entry.severity == "warn"
    ]


def _checked(report: Report, limit: Limit, baseline: Report | None) -> Excess | None:
    """Return the excess of one figure, or None if it keeps the limit."""
    name = limit.metric
    figure = report.figures.get(name) or _map_drop(report, name, baseline)
    if figure is None:
        raise BudgetError(f"the report has no {name}{_remedy(name)}")
    pair = paired(report, name, baseline) if limit.relative else None
    if baseline and pair is None and (limit.relative or name not in report.figures):
        _require_comparable(name, report, baseline)
    reference = pair.before if pair else _reference(limit, baseline)
    if pair:  # the ratio of times that ran in turn, not the quotient of two medians
        figure = Figure(pair.before * pair.ratio.middle, figure.unit, figure.kind)
    bound, stated = _bound(limit, report, baseline, reference)
    if (figure.value >= bound) if METRICS[name].more_is_better else (figure.value <= bound):
        return None
    doubt = uncertain(report, name, bound, baseline if limit.relative else None, pair)
    like = baseline if baseline and mismatch(name, report, baseline) is None else None
    return Excess(name, figure, bound, limit.level, blame(report, name, like), stated, doubt)


def _require_comparable(name: str, report: Report, baseline: Report) -> None:
    found = mismatch(name, report, baseline)
    if found and found.severity == "refuse":
        remedy = "evaluate both on the same data" if name.startswith("quality.") else "measure both on one machine"
        if name.startswith("latency."):
            remedy += ": hashpress profile BUNDLE --baseline BASELINE_BUNDLE"
        raise BudgetError(f"{name} cannot be held against this baseline ({found.reason}); {remedy}")


def _map_drop(report: Report, metric: str, baseline: Report | None) -> Figure | None:
    """Return the mAP drop against the baseline, for a report that was evaluated without the original network."""
    if metric != "quality.map_drop" or baseline is None:
        return None
    now, before = (one.figures.get("quality.map") for one in (report, baseline))
    return Figure(before.value - now.value, "share", now.kind) if now and before else None


def _reference(limit: Limit, baseline: Report | None) -> float | None:
    """Return the baseline's figure that a relative limit grows from; None for other limits."""
    if not limit.relative:
        return None
    figure = baseline.figures.get(limit.metric) if baseline else None
    if figure is None:
        what = "the baseline has no such figure" if baseline else "give --baseline REPORT"
        raise BudgetError(f"the limit on {limit.metric} is relative: {what}")
    return figure.value


def _bound(limit: Limit, report: Report, baseline: Report | None, reference: float | None) -> tuple[float, str]:
    """Return the limit as a value of the figure, and how the budget puts it if it is not that value."""
    metric = METRICS[limit.metric]
    amount = format_points(limit.value) if limit.points else show(limit.value, "share")
    if reference is not None:
        growth = limit.value if limit.points else abs(reference) * limit.value
        sign = "-" if metric.more_is_better else "+"
        return reference + float(
            f"{sign}1"
        ) * growth, f"{sign}{amount} on the baseline's {show_metric(limit.metric, reference)}"
    if metric.difference and not limit.points:
        original = _original_map(limit.metric, report, baseline)
        return limit.value * original, f"{amount} of the original's mAP of {show(original, 'share')}"
    return limit.value, ""


def _original_map(name: str, report: Report, baseline: Report | None) -> float:
    """Return the mAP of the original network, from which ``name`` is a drop."""
    drop, left = report.figures.get(name), report.figures.get(_LEFT[name])
    if drop and left:
        return drop.value + left.value
    before = baseline.figures.get("quality.map") if baseline else None
    if before is None:
        raise BudgetError(
            f'the limit on {name} is a share of the original\'s mAP, which the report lacks; write "1 point"'
        )
    return before.value


def _remedy(metric: str) -> str:
    if metric.startswith("quality."):
        return " (add it with: hashpress evaluate ... -o QUALITY, then hashpress profile ... --quality QUALITY)"
    if metric == "memory.network":
        return " (reports of earlier versions lack it; profile the bundle again)"
    return ""
