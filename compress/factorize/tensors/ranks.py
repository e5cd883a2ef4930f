"""How many terms a layer keeps: by energy, by cost, by measured damage, or in one problem for all layers together."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ....core.errors import InputError


def by_energy(energies: np.ndarray, share: float) -> int:
    """Return the smallest rank whose leading ``energies`` (largest first) hold ``share`` of all; at least 1."""
    total = float(energies.sum())
    if total <= 0:
        return 1
    kept = np.cumsum(energies) / total
    return min(int(np.searchsorted(kept, share - 1e-12)) + 1, len(energies))


def by_cost(cost: Callable[[int], float], limit: float, highest: int) -> int:
    """Return the largest rank up to ``highest`` whose growing ``cost`` is at most ``limit``; 0 when there is none."""
    return first_true(lambda rank: cost(rank) > limit, highest + 1) - 1


def by_damage(damage: Callable[[int], float], limit: float, highest: int) -> int:
    """Return the smallest rank up to ``highest`` whose falling ``damage`` is at most ``limit``; ``highest + 1`` if none.

    About log2(highest) ranks are tried.
    """
    return first_true(lambda rank: damage(rank) <= limit, highest + 1)


def by_guess(damage: Callable[[int], float], limit: float, guess: int, highest: int) -> int:
    """Return a rank from ``guess`` to ``highest`` whose measured ``damage`` is at most ``limit``; ``highest + 1`` if none.

    Strides double until one holds, then the last is bisected: about 2 log2(highest) ranks are tried. Every rank that is
    returned was tried, so the limit holds where damage does not fall evenly.
    """
    if highest < 1:
        return highest + 1
    at, stride = min(guess, highest), 1
    failed = at - 1
    while damage(at) > limit:
        if at == highest:
            return highest + 1
        failed, at, stride = at, min(at + stride, highest), 2 * stride
    return failed + first_true(lambda further: damage(failed + further) <= limit, at - failed)


def first_true(holds: Callable[[int], bool], end: int) -> int:
    """Return the first number from 1 on for which ``holds`` is true, given that it stays true; ``end`` at the latest."""
    return 1 + bisect_left(range(1, end), True, key=holds)


@dataclass(frozen=True)
class RankCandidate:
    """A layer that may be cut: its energies, largest first, the cost of one rank, and its cost when left whole."""

    energies: np.ndarray
    unit: float
    whole: float

    def cost(self, rank: int) -> float:
        """Return the cost at a rank; a layer that gains nothing is left whole."""
        return min(self.unit * rank, self.whole)


def by_product(candidates: Mapping[str, RankCandidate], budget: float) -> dict[str, int]:
    """Return the ranks that keep most of the product of the layers' energies within ``budget`` for all of them.

    Zhang et al. 2016, section 3.4: start full, again and again drop the last energy of the layer where the loss of its
    share ``(dE / E) / dC`` is smallest. A layer whose rank saves nothing is to be left whole.

    Raises:
        InputError: even rank 1 everywhere costs more than the budget.
    """
    least = sum(candidate.cost(1) for candidate in candidates.values())
    if least > budget:
        raise InputError(f"a budget of {budget:,.0f} cannot be met: rank 1 in every layer costs {least:,.0f}")
    ranks = {path: len(candidate.energies) for path, candidate in candidates.items()}
    sums = {path: np.cumsum(candidate.energies) for path, candidate in candidates.items()}
    cost = sum(candidate.cost(ranks[path]) for path, candidate in candidates.items())
    places = {path: place for place, path in enumerate(candidates)}

    def score(path: str) -> tuple[float, int, str]:
        rank, total = ranks[path], float(sums[path][ranks[path] - 1])
        lost = float(candidates[path].energies[rank - 1])
        return (lost / total if total > 0 else 0.0) / candidates[path].unit, places[path], path

    heap = [score(path) for path, rank in ranks.items() if rank > 1]
    heapq.heapify(heap)
    while cost > budget * (1 + 1e-12) and heap:
        path = heapq.heappop(heap)[2]
        candidate = candidates[path]
        cost += candidate.cost(ranks[path] - 1) - candidate.cost(ranks[path])
        ranks[path] -= 1
        if ranks[path] > 1:
            heapq.heappush(heap, score(path))
    return ranks
