"""Hulls, budgets and bisection against exhaustive search."""

import itertools

import numpy as np
import pytest
from hashpress.compress.allocate import bisect, lower_hull, sides, spend


def curve(seed):
    """Return points (amount, cost) with amounts 0 to 6, costs that rise but are not convex."""
    costs = np.random.default_rng(seed).random(6).cumsum() ** 1.5
    return [(0.0, 0.0), *((float(amount + 1), float(cost)) for amount, cost in enumerate(costs))]


def cheapest(points, amount):
    """Return the least cost of an amount among all mixtures of two points."""
    found = [cost for at, cost in points if at == amount]
    for (a, low), (b, high) in itertools.combinations(points, 2):
        if a <= amount <= b:
            found.append(low + (high - low) * (amount - a) / (b - a))
    return min(found)


@pytest.mark.parametrize("seed", range(8))
def test_the_hull_is_the_cheapest_mixture_at_every_amount(seed):
    points = curve(seed)
    hull = lower_hull(points)
    assert set(hull) <= set(points)
    amounts, costs = zip(*hull, strict=True)
    for amount in np.linspace(0, 6, 25):
        assert np.interp(amount, amounts, costs) == pytest.approx(cheapest(points, amount))
    prices = [side.price for side in sides("a", points)]
    assert prices == sorted(prices)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("amount", [2.0, 7.5, 11.0])
def test_an_amount_is_given_up_at_the_least_cost_of_all_splits(seed, amount):
    curves = {name: curve(10 * seed + at) for at, name in enumerate("abc")}
    taken = spend((side for name, points in curves.items() for side in sides(name, points)), amount=amount)
    assert sum(taken.values()) == pytest.approx(amount)
    cost = sum(cheapest(curves[name], part) for name, part in taken.items())
    grid = np.arange(0, 6.01, 0.5)
    splits = ((a, b, amount - a - b) for a in grid for b in grid if 0 <= amount - a - b <= 6)
    least = min(
        sum(cheapest(points, part) for points, part in zip(curves.values(), split, strict=True)) for split in splits
    )
    assert cost <= least + 1e-9  # the grid may miss the best, never beat it


@pytest.mark.parametrize("budget", [0.0, 0.4, 2.0, 1e9])
def test_a_budget_buys_what_the_same_amount_costs(budget):
    curves = {name: curve(at) for at, name in enumerate("ab")}
    steps = [side for name, points in curves.items() for side in sides(name, points)]
    bought = spend(steps, budget=budget)
    whole = sum(points[-1][1] for points in curves.values())
    cost = sum(cheapest(curves[name], part) for name, part in bought.items())
    assert cost == pytest.approx(min(budget, whole), abs=1e-9)
    same = spend(steps, amount=sum(bought.values()))
    assert {name: part for name, part in same.items() if part} == pytest.approx(
        {name: part for name, part in bought.items() if part}
    )


def test_bisection_closes_in_on_the_turn_from_below():
    low, high = bisect(lambda x: x * x <= 2, 0.0, 2.0, rounds=20)
    assert low <= 2**0.5 < high
    assert high - low == 2.0**-19
    low, high = bisect(lambda x: x < 37.5, 1e-3, 1e6, ratio=1.001)
    assert low < 37.5 <= high
    assert 1.0 < high / low <= 1.001
    tried = []
    bisect(lambda x: bool(tried.append(x)), 1.0, 16.0, ratio=4.0)
    assert tried == [4.0]  # the middle on a scale of logarithms; then 4 / 1 is close enough
