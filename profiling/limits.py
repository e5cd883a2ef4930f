"""Limits of a budget as people write them: units, percent and points, and questions where a limit is hardly meant.

A share is written ``0.9`` or ``"90 %"``. A drop of mAP is written ``"1 point"`` (a difference of 0.01) or ``"1 %"`` (1 %
of the original network's mAP); a plain number is a difference. ``"+5 %"`` allows 5 % more than the baseline report has,
``"+1 point"`` one percentage point, both less where more is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import BudgetError, lookup
from ..core.units import parse, parse_bytes, parse_ms, parse_points, parse_share
from .metrics import METRICS, Metric

LEVELS = ("error", "warn")
KEYS = ("limit", "level")
_COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_PARSERS: dict[str, Callable[[str, str], float]] = {
    "B": parse_bytes,
    "ms": parse_ms,
    "count": lambda text, what: parse(text, _COUNTS, what),
    "cycles": lambda text, what: parse(text, _COUNTS, what),
}
_LIKELY = {"B": "{} B", "ms": "{} ms"}  # what a number without a unit is asked to be


@dataclass(frozen=True)
class Limit:
    """One limit of a budget.

    A ``relative`` limit is the allowed growth (or loss) against the baseline. ``value`` is a difference of shares if
    ``points`` is set; otherwise it is a share of the baseline's figure or, for a drop of mAP, of the original's mAP.
    """

    metric: str
    value: float
    level: str = "error"
    relative: bool = False
    points: bool = False


def entries(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name of a figure, what the budget says about it) of nested TOML tables."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in METRICS and not set(KEYS) & set(value):
            yield from entries(value, f"{name}.")
        else:
            yield name, value


def parse_limit(name: str, entry: Any) -> Limit:
    """Return the limit that a budget states for the figure ``name``.

    Raises:
        InputError: an unknown figure, key, level or unit, or a value that is hardly meant.
    """
    metric = lookup(METRICS, name, "figure", BudgetError)
    level = "error"
    if isinstance(entry, Mapping):
        for key in entry:
            lookup(dict.fromkeys(KEYS), key, f"key of {name}", BudgetError)
        if "limit" not in entry:
            raise BudgetError(f'{name} has no limit; write {name} = {{ limit = "...", level = "warn" }}')
        entry, level = entry["limit"], entry.get("level", level)
    if not isinstance(level, str) or level not in LEVELS:
        lookup(dict.fromkeys(LEVELS), str(level), f"level of {name}", BudgetError)
    if isinstance(entry, bool) or not isinstance(entry, str | int | float):
        raise BudgetError(f"{name}: a limit must be a string with a unit or a number, found {entry!r}")
    if isinstance(entry, str) and entry.strip().startswith("+"):
        return _growth(name, metric, entry.strip()[1:], level)
    if metric.unit == "share":
        return _share(name, metric, entry, level)
    if not isinstance(entry, str) and metric.unit in _LIKELY:
        likely = _LIKELY[metric.unit].format(entry)
        raise BudgetError(f'{name}: {entry} has no unit; did you mean "{likely}"?')
    return Limit(name, _PARSERS[metric.unit](entry, name), level)  # type: ignore[arg-type]


def _growth(name: str, metric: Metric, text: str, level: str) -> Limit:
    """Return the limit in ``"+5 %"`` or ``"+1 point"`` without its sign."""
    points = parse_points(text, name)
    if points is not None:
        if metric.unit != "share":
            raise BudgetError(f'{name}: points are differences of shares; write "+{100 * points:g} %" for this figure')
        return Limit(name, points, level, relative=True, points=True)
    if not text.strip().endswith("%"):
        raise BudgetError(f'{name}: growth is written "+5 %" or, for shares, "+1 point", found "+{text}"')
    return Limit(name, parse_share(text, name), level, relative=True)


def _share(name: str, metric: Metric, entry: str | float, level: str) -> Limit:
    """Return the limit on a share, or on a difference of shares, after asking about what is hardly meant."""
    points = parse_points(entry, name) if isinstance(entry, str) else None
    if points is not None and not metric.difference:
        raise BudgetError(
            f'{name}: points are differences, {name} is a share; did you mean "{100 * points:g} %" '
            f'or, against a baseline, "+{100 * points:g} points"?'
        )
    percent = isinstance(entry, str) and entry.strip().endswith("%")
    value = parse_share(entry, name) if points is None else points
    written = f'"{entry.strip()}"' if isinstance(entry, str) else f"{entry:g}"
    if value > 1:
        stated = value / 100 if not percent and value <= 100 else None
        asked = f'did you mean {stated:.2f} or "{100 * stated:g} %"?' if stated is not None else "write at most 100 %"
        raise BudgetError(f"{name}: {written} would be {100 * value:,.0f} %; {asked}")
    if value == 1 and not percent and not metric.more_is_better:
        raise BudgetError(f'{name}: {written} is 100 %, which nothing exceeds; did you mean 0.01 or "1 %"?')
    if percent and metric.more_is_better and 0 < value < 0.01:
        meant = f'did you mean "{1e4 * value:g} %"?'
        raise BudgetError(f"{name}: {written} is {value:.4g}, which hardly anything falls below; {meant}")
    return Limit(name, value, level, points=metric.difference and not percent)
