"""Latency measurement: warm-up, median with a 95 % confidence interval, and interleaved comparison of two functions.

Runs are repeated until the confidence interval of the median (distribution-free, from order statistics: Hahn & Meeker
1991, section 5.2) is narrower than the tolerance, or until the time limit; the result says which.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.progress import track

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Statistics of wall times in milliseconds; ``spread`` is the half width of the median's confidence interval."""

    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int
    spread: float  # relative to the median
    converged: bool  # whether the spread is at most the tolerance

    @classmethod
    def of(cls, samples_ms: Sequence[float], tolerance: float = 0.02) -> Timing:
        """Return the statistics of at least one sample."""
        ordered = np.sort(np.asarray(samples_ms, dtype=np.float64))
        p50, p90, p99 = (float(value) for value in np.percentile(ordered, (50, 90, 99)))
        spread = median_spread(ordered)
        return cls(float(ordered[0]), p50, p90, p99, len(ordered), spread, spread <= tolerance)


def median_spread(ordered: np.ndarray) -> float:
    """Return the half width of the 95 % confidence interval of the median of sorted samples, relative to the median."""
    count = len(ordered)
    reach = 0.98 * math.sqrt(count)  # half of 1.96 standard deviations of a binomial(count, 1/2), in ranks
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    if low < 0 or high >= count:
        return math.inf
    return float((ordered[high] - ordered[low]) / 2 / max(float(np.median(ordered)), 1e-12))


def measure(
    work: Work,
    *,
    warmup: int = 5,
    min_runs: int = 30,
    max_runs: int = 5000,
    seconds: float = 5.0,
    tolerance: float = 0.02,
    what: str = "timing",
) -> Timing:
    """Return the wall time of ``work()``, repeated after a warm-up until the median has converged or time is up."""
    return Timing.of(_rounds((work,), warmup, min_runs, max_runs, seconds, tolerance, what)[0], tolerance)


def measure_samples(
    sample: Callable[[int], Sequence[float] | np.ndarray],
    *,
    min_runs: int = 30,
    max_runs: int = 5000,
    seconds: float = 5.0,
    tolerance: float = 0.02,
    what: str = "timing",
) -> Timing:
    """Return the time of work that is timed on a device: ``sample(n)`` runs it ``n`` more times and returns milliseconds.

    It is called until the median has converged or time is up, as in :func:`measure`.
    """
    samples: list[float] = []
    start = time.perf_counter()
    for step in track(_growth(min_runs, max_runs), what):
        remaining = seconds - (time.perf_counter() - start)
        if samples:
            affordable = int(remaining * len(samples) / max(seconds - remaining, 1e-9))
            step = min(step, max(affordable, 1))  # noqa: PLW2901  # the last batch ends at the time limit
        samples.extend(sample(step))
        if time.perf_counter() - start >= seconds or median_spread(np.sort(samples)) <= tolerance:
            break
    return Timing.of(samples, tolerance)


def _growth(first: int, most: int) -> list[int]:
    """Return batch sizes that add up to ``most``; each is a quarter of the sum before it, because sorting takes time."""
    sizes, done = [first], first
    while done < most:
        sizes.append(min(max(1, done // 4), most - done))
        done += sizes[-1]
    return sizes


@dataclass(frozen=True)
class Pair:
    """Times of two interleaved functions; ``ratio`` is the median over the rounds of first / second."""

    first: Timing
    second: Timing
    ratio: float
    ratio_low: float  # quartiles of the rounds' ratios
    ratio_high: float


def measure_pair(
    first: Work,
    second: Work,
    *,
    warmup: int = 5,
    min_runs: int = 30,
    max_runs: int = 5000,
    seconds: float = 10.0,
    tolerance: float = 0.02,
    what: str = "side by side",
) -> Pair:
    """Return both timings and their paired ratio, from interleaved runs so that clock drift affects both equally."""
    one, two = _rounds((first, second), warmup, min_runs, max_runs, seconds, tolerance, what)
    low, middle, high = (float(value) for value in np.percentile(np.divide(one, two), (25, 50, 75)))
    return Pair(Timing.of(one, tolerance), Timing.of(two, tolerance), middle, low, high)


def _rounds(
    works: Sequence[Work],
    warmup: int,
    min_runs: int,
    max_runs: int,
    seconds: float,
    tolerance: float,
    what: str,
) -> tuple[list[float], ...]:
    for _ in range(warmup):
        for work in works:
            work()
    samples: tuple[list[float], ...] = tuple([] for _ in works)
    deadline = time.perf_counter() + seconds
    check_at = min_runs
    for done in track(range(1, max_runs + 1), what):
        for place in range(len(works)):
            turn = (place + done) % len(works)  # the order alternates
            start = time.perf_counter_ns()
            works[turn]()
            samples[turn].append((time.perf_counter_ns() - start) / 1e6)
        if done < check_at:
            continue
        if time.perf_counter() >= deadline or all(median_spread(np.sort(times)) <= tolerance for times in samples):
            break
        check_at = done + max(1, done // 4)  # sorting after every run would disturb the measurement
        if (time.perf_counter() - deadline + seconds) / done * (check_at - done) > deadline - time.perf_counter():
            check_at = done + 1
    return samples
