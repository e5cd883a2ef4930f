"""Allocation of one budget over many layers: lower convex hulls, greedy spending and bisection (Shoham & Gersho 1988).

If the cost of every layer is a convex function of the amount it gives up, always taking the cheapest step has the least
total cost for every total amount. Replacing each curve by its lower convex hull makes it convex.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Point = tuple[float, float]  # (amount given up, cost), amounts rising


class HullSide(NamedTuple):
    """One side of a convex hull: its cost per unit, the layer that owns it, and its length in units."""

    price: float
    owner: str
    length: float


def lower_hull(points: Sequence[Point]) -> list[Point]:
    """Return the points of ``points`` that lie on their lower convex hull; the first point is always included."""
    hull = list(points[:1])
    for point in points[1:]:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def sides(owner: str, points: Sequence[Point]) -> list[HullSide]:
    """Return the sides of the lower convex hull of ``points``, cheapest first."""
    return [HullSide(_slope(a, b), owner, b[0] - a[0]) for a, b in itertools.pairwise(lower_hull(points))]


def spend(steps: Iterable[HullSide], *, amount: float = math.inf, budget: float = math.inf) -> dict[str, float]:
    """Return how much each owner gives up if the cheapest steps are taken first, up to ``amount`` units or a cost of ``budget``.

    The last step may be taken in part. Owners that give up nothing may be missing.
    """
    taken: dict[str, float] = {}
    for price, owner, length in sorted(steps):
        part = min(length, amount, budget / price if price > 0 else math.inf)
        taken[owner] = taken.get(owner, 0.0) + part
        amount -= part
        budget -= part * price
        if part < length:
            break
    return taken


def bisect(
    below: Callable[[float], bool], low: float, high: float, *, rounds: int | None = None, ratio: float | None = None
) -> tuple[float, float]:
    """Return ``low`` and ``high``, narrowed around the point at which ``below`` changes from true to false.

    Halves the interval ``rounds`` times, or, with ``ratio``, bisects geometrically until high / low is at most
    ``ratio``.
    """
    done = 0
    while done < rounds if rounds is not None else high / low > (ratio or 2.0):
        middle = (low + high) / 2 if rounds is not None else (low * high) ** 0.5
        low, high = (middle, high) if below(middle) else (low, middle)
        done += 1
    return low, high


def _slope(a: Point, b: Point) -> float:
    return (b[1] - a[1]) / max(b[0] - a[0], 1e-12)
