"""What a latency measured in several processes tells: intervals of the median, and the verdict on a limit.

Runs within one process agree far better with each other than processes do, so that the spread of a figure is that
between processes. Two networks are compared by the ratio of their times in the same process, where they ran in turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.units import format_ms
from .report import Report

# 97.5 % quantile of Student's t by degrees of freedom; beyond the table the value for its last entry is used
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Interval:
    """The median of several processes with its 95 % confidence interval, and the medians of either half of them."""

    low: float
    middle: float
    high: float
    halves: tuple[float, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Return the interval of at least two positive values: Student's, of their logarithms."""
        logs, count = np.log(np.asarray(values, dtype=np.float64)), len(values)
        reach = _T[min(count - 1, len(_T)) - 1] * float(logs.std(ddof=1)) / math.sqrt(count)
        middle, centre = float(np.median(values)), float(logs.mean())
        low, high = min(math.exp(centre - reach), middle), max(math.exp(centre + reach), middle)
        cut = (count + 1) // 2
        return cls(low, middle, high, (float(np.median(values[:cut])), float(np.median(values[count - cut :]))))

    @property
    def half_width(self) -> float:
        """Half the width of the interval as a share of the median."""
        return (self.high - self.low) / 2 / self.middle


@dataclass(frozen=True)
class Paired:
    """A figure of the baseline, and the ratio to it of the network that ran in turn with it, over the processes."""

    before: float
    ratio: Interval


def processes(timing: Mapping[str, Any], name: str) -> list[float]:
    """Return the figure ``name`` (``latency.p50``) of every process, in milliseconds; empty if it is not there."""
    key, rows = name.removeprefix("latency."), timing.get("processes")
    values = [row.get(key) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return [float(value) for value in values if isinstance(value, int | float) and value > 0]


def paired(report: Report, name: str, baseline: Report | None) -> Paired | None:
    """Return the paired measurement that the report has of a latency and of its baseline.

    None if there is none, or if ``baseline`` is a report of another bundle than the one measured in turn.
    """
    other = report.timing.get("baseline")
    if not isinstance(other, Mapping) or not name.startswith("latency."):
        return None
    if baseline is not None and dict(other.get("hashes") or {}) != dict(baseline.hashes):
        return None
    now, before = processes(report.timing, name), processes(other, name)
    if len(now) < 2 or len(now) != len(before):
        return None
    return Paired(float(np.median(before)), Interval.of(np.divide(now, before).tolist()))


def uncertain(report: Report, name: str, bound: float, baseline: Report | None, pair: Paired | None) -> str:
    """Return why a time over ``bound`` may not be over it; empty if it is, or if nothing tells how far times scatter."""
    if not name.startswith("latency."):
        return ""
    if pair is not None:
        share = bound / pair.before
        found = f"ratio {pair.ratio.low:.3f} to {pair.ratio.high:.3f} in {_count(report, name)} processes"
        return _verdict(pair.ratio, share, found, f"the limit is {share:.3f}")
    values = processes(report.timing, name)
    if len(values) < 2:
        return ""
    times = Interval.of(values)
    found = f"{format_ms(times.low)} to {format_ms(times.high)} in {len(values)} processes"
    others = processes(baseline.timing, name) if baseline else []
    if len(others) > 1:  # measured one after the other: the baseline's error adds to the limit's
        before = Interval.of(others)
        bound *= before.high / before.middle
        found += f", the baseline up to {format_ms(before.high)}"
    return _verdict(times, bound, found, f"the limit is {format_ms(bound)}")


def _verdict(interval: Interval, bound: float, found: str, limit: str) -> str:
    if interval.low <= bound:
        return f"{found}, {limit}"
    if min(interval.halves) <= bound:
        return f"{found}, but only one half of the processes is over"
    return ""


def _count(report: Report, name: str) -> int:
    return len(processes(report.timing, name))
