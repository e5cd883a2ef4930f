"""Budgets: limits with units on the figures of a report, read from a TOML file.

    storage.file = "900 kB"
    latency.p50 = { limit = "12 ms", level = "warn" }
    quality.map_drop = "1 %"
    storage.library = "+5 %"        # against the baseline report

A limit is an upper bound, or a lower bound for figures where more is better (quality.map).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BudgetError, HashpressError, lookup
from ..core.units import parse, parse_bytes, parse_ms, parse_share
from .blame import blame
from .metrics import METRICS
from .report import Figure, Report, show

LEVELS = ("error", "warn")
_COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_PARSERS: dict[str, Callable[[str, str], float]] = {
    "B": parse_bytes,
    "ms": parse_ms,
    "share": parse_share,
    "count": lambda text, what: parse(text, _COUNTS, what),
    "cycles": lambda text, what: parse(text, _COUNTS, what),
}


@dataclass(frozen=True)
class Limit:
    """One limit of a budget; a ``relative`` limit is the allowed growth (or loss) against the baseline, as a share."""

    metric: str
    value: float
    level: str = "error"
    relative: bool = False


@dataclass(frozen=True)
class Budget:
    """The limits in one budget file."""

    limits: tuple[Limit, ...]


@dataclass(frozen=True)
class Excess:
    """A figure that exceeds its limit; ``why`` lists the largest contributors."""

    metric: str
    measured: Figure
    limit: float
    level: str
    why: tuple[str, ...] = ()

    @property
    def margin(self) -> float:
        """The distance from the limit in the unit of the figure, positive."""
        return abs(self.measured.value - self.limit)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        value: dict[str, Any] = {"metric": self.metric, "measured": self.measured.value, "limit": self.limit}
        value |= {"margin": self.margin, "unit": self.measured.unit, "kind": self.measured.kind}
        return value | {"level": self.level, "why": list(self.why)}

    def __str__(self) -> str:
        unit = self.measured.unit
        limit, margin = show(self.limit, unit), show(self.margin, unit)
        side = "below" if METRICS[self.metric].more_is_better else "over"
        return f"{self.metric}: {self.measured}, budget {limit} ({margin} {side}, {self.measured.kind})"


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
    limits, problems = [], []
    for name, entry in _flat(table):
        try:
            limits.append(_limit(name, entry))
        except HashpressError as fault:
            problems.append(str(fault))
    if not limits and not problems:
        problems.append('the budget has no limits; add one, for example: storage.file = "900 kB"')
    if problems:
        raise BudgetError("; ".join(problems))
    return Budget(tuple(limits))


def check(report: Report, budget: Budget, baseline: Report | None = None) -> tuple[Excess, ...]:
    """Return the figures of ``report`` that exceed their limits, errors before warnings.

    Raises:
        BudgetError: the report lacks a limited figure, or a relative limit has no baseline; all in one message.
    """
    problems, excesses = [], []
    for limit in budget.limits:
        figure = report.figures.get(limit.metric) or _map_drop(report, limit.metric, baseline)
        reference = baseline.figures.get(limit.metric) if baseline else None
        if figure is None:
            problems.append(f"the report has no {limit.metric}{_remedy(limit.metric)}")
        elif limit.relative and reference is None:
            what = "the baseline has no such figure" if baseline else "give --baseline REPORT"
            problems.append(f"the limit on {limit.metric} is relative: {what}")
        else:
            excess = _excess(report, limit, figure, reference, baseline)
            excesses += [excess] if excess else []
    if problems:
        raise BudgetError("; ".join(problems))
    return tuple(sorted(excesses, key=lambda excess: LEVELS.index(excess.level)))


def _map_drop(report: Report, metric: str, baseline: Report | None) -> Figure | None:
    """Return the mAP drop against the baseline, for a report that was evaluated without the original network."""
    if metric != "quality.map_drop" or baseline is None:
        return None
    now, before = (one.figures.get("quality.map") for one in (report, baseline))
    return Figure(before.value - now.value, "share", now.kind) if now and before else None


def _excess(
    report: Report, limit: Limit, figure: Figure, reference: Figure | None, baseline: Report | None
) -> Excess | None:
    more = METRICS[limit.metric].more_is_better
    bound = limit.value
    if limit.relative and reference is not None:
        bound = reference.value * (1 - limit.value if more else 1 + limit.value)
    if (figure.value >= bound) if more else (figure.value <= bound):
        return None
    return Excess(limit.metric, figure, bound, limit.level, blame(report, limit.metric, baseline))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and "limit" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _limit(name: str, entry: Any) -> Limit:
    metric = lookup(METRICS, name, "figure", BudgetError)
    level = "error"
    if isinstance(entry, Mapping):
        unknown = [key for key in entry if key not in ("limit", "level")]
        if unknown:
            raise BudgetError(f"{name}: unknown key {', '.join(map(repr, unknown))} (there are: limit, level)")
        entry, level = entry["limit"], entry.get("level", level)
    if level not in LEVELS:
        raise BudgetError(f"{name}: unknown level {level!r} (there are: {', '.join(LEVELS)})")
    if isinstance(entry, bool) or not isinstance(entry, str | int | float):
        raise BudgetError(f"{name}: a limit must be a string with a unit or a number, found {entry!r}")
    if isinstance(entry, str) and entry.strip().startswith("+"):
        return Limit(name, parse_share(entry.strip()[1:], name), level, relative=True)
    return Limit(name, _PARSERS[metric.unit](entry, name), level)  # type: ignore[arg-type]


def _remedy(metric: str) -> str:
    if metric.startswith("quality."):
        return " (add it with: hashpress evaluate ... -o QUALITY, then hashpress profile ... --quality QUALITY)"
    return ""
