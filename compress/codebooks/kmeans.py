"""Scalar k-means for the codebook of one weight: exact, iterated, or entropy-constrained (Han et al. 2016, arXiv:1510.00149).

Works on sorted copies, so that an assignment is a binary search among thresholds and a centre is a difference of prefix
sums. Sources: Han et al. 2016 (arXiv:1510.00149, section 3) for the initial centres; Chou, Lookabaugh & Gray 1989 for
entropy-constrained quantization; Wang & Song 2011 and Gronlund et al. 2017 for the exact optimum (package kmeans1d).
"""

from __future__ import annotations

import kmeans1d
import numpy as np

from ...modelfile.coding import rate

MAX_ROUNDS = 100
EXACT_LIMIT = 200_000  # values; beyond it kmeans1d takes minutes
FIT = 1 << 19  # values of one weight that a codebook is fitted to; all are assigned


def linear(values: np.ndarray, entries: int, seed: int) -> np.ndarray:  # noqa: ARG001  # as all starts
    """Return equidistant centres between the minimum and the maximum."""
    return np.linspace(values.min(), values.max(), entries)


def density(values: np.ndarray, entries: int, seed: int) -> np.ndarray:  # noqa: ARG001  # as all starts
    """Return centres at equidistant quantiles."""
    return np.quantile(values, (np.arange(entries) + 0.5) / entries)


def forgy(values: np.ndarray, entries: int, seed: int) -> np.ndarray:
    """Return random values as centres."""
    return np.random.default_rng(seed).choice(values, entries, replace=len(values) < entries)


STARTS = {"linear": linear, "density": density, "forgy": forgy}


def sample(weight: np.ndarray) -> np.ndarray:
    """Return the flat indices that a codebook is fitted to: all, or a subset of a large weight that includes its extremes."""
    if weight.size <= FIT:
        return np.arange(weight.size)
    even = np.linspace(0, weight.size - 1, FIT).astype(np.int64)
    return np.union1d(even, [weight.argmin(), weight.argmax()])


def kmeans(values: np.ndarray, entries: int, start: str, seed: int) -> np.ndarray:
    """Return sorted centres after Lloyd's iteration from ``start``, or the exact optimum for ``start = "optimal"``."""
    values = np.sort(values.astype(np.float64))
    distinct = np.unique(values)
    if len(distinct) <= entries:
        return distinct
    if start == "optimal" and len(values) <= EXACT_LIMIT:
        return np.unique(np.array(kmeans1d.cluster(values, entries).centroids))
    centres = np.unique(STARTS["linear" if start == "optimal" else start](values, entries, seed))
    return lloyd(values, np.ones_like(values), centres)


def lloyd(values: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the centres after Lloyd's iteration on sorted ``values``; empty clusters are dropped."""
    mass = np.concatenate([[0.0], np.cumsum(weights)])
    moment = np.concatenate([[0.0], np.cumsum(weights * values)])
    cuts = np.array([], dtype=np.int64)
    for _ in range(MAX_ROUNDS):
        new = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        if np.array_equal(new, cuts):
            break
        cuts = new
        edges = np.concatenate([[0], cuts, [len(values)]])
        masses = np.diff(mass[edges])
        centres = np.diff(moment[edges])[masses > 0] / masses[masses > 0]
        if len(centres) != len(masses):
            cuts = np.array([], dtype=np.int64)
    return centres


def nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the index of the nearest of the sorted ``centres`` for each value."""
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values)


def around_zero(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return 0 for zeros, and for other values the index of the nearest of the sorted ``centres[1:]``."""
    return np.where(values == 0, 0, nearest(values, centres[1:]) + 1)


def grid(values: np.ndarray, weights: np.ndarray, entries: int, price: float) -> np.ndarray:
    """Return zero and equidistant centres around it, with the step that is optimal for ``price`` at high rates."""
    step = rate.step_at(price, weight=float(np.mean(weights)))
    reach = max(float(np.abs(values).max()), 1e-30)
    steps = int(min(max(np.ceil(reach / max(step, reach / entries) - 0.5), 1), entries // 2))
    return (
        np.arange(-steps, steps + 1) * max(step, reach / (steps + 0.5))
        if step < reach
        else np.array([-reach, 0.0, reach])
    )


def priced(
    values: np.ndarray, weights: np.ndarray, entries: int, price: float, rounds: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Return centres, the first of them zero, and indices that locally minimise ``sum weights (v - c)^2 + price * bits``.

    Bits are those of an ideal entropy coder of the indices. Unused entries are dropped.
    """
    centres = grid(values, weights, entries, price)
    centres = np.concatenate([[0.0], centres[centres != 0]])
    bits = np.full(len(centres), np.log2(len(centres)))
    indices = np.zeros(len(values), dtype=np.int64)
    for _ in range(rounds):
        new = cheapest(values, weights, centres, price * bits)
        if np.array_equal(new, indices):
            break
        indices = new
        counts = np.bincount(indices, minlength=len(centres))
        mass = np.bincount(indices, weights, minlength=len(centres))
        moment = np.bincount(indices, weights * values, minlength=len(centres))
        moved = mass > 0
        centres[moved] = moment[moved] / mass[moved]
        centres[0] = 0.0
        bits = rate.code_lengths(counts, unused=rate.UNUSED)
    used = np.unique(np.concatenate([[0], indices]))
    order = used[np.argsort(np.where(used == 0, -np.inf, centres[used]), kind="stable")]
    places = np.zeros(len(centres), dtype=np.int64)
    places[order] = np.arange(len(order))
    return centres[order], places[indices]


def cheapest(values: np.ndarray, weights: np.ndarray, centres: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return for each value the index of the centre with the least sum of weighted squared error and price."""
    best = weights * np.square(values - centres[0]) + prices[0]
    indices = np.zeros(len(values), dtype=np.int64)
    for place in range(1, len(centres)):
        cost = weights * np.square(values - centres[place]) + prices[place]
        better = cost < best
        best[better] = cost[better]
        indices[better] = place
    return indices
