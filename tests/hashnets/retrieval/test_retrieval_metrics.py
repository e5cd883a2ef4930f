"""Retrieval metrics against the enumeration of every order of ties, scikit-learn and faiss."""

from __future__ import annotations

from itertools import chain, permutations, product

import faiss
import numpy as np
import pytest
from hashpress.core.data.labels import ClassLabels
from hashpress.hashnets.retrieval.metrics import (
    Counts,
    average_precision,
    average_precision_bounds,
    count,
    curve,
    precision_at,
    precision_within,
)
from hashpress.hashnets.retrieval.published_map import published
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

# groups of ties from near to far: (items, relevant)
GROUPS = st.lists(st.integers(0, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=4)
SMALL = GROUPS.filter(lambda groups: 0 < sum(n for n, _ in groups) <= 9)


def counts(*queries: list[tuple[int, int]]) -> Counts:
    width = max(len(groups) for groups in queries)
    table = np.zeros((len(queries), width, 2), dtype=np.int64)
    for row, groups in zip(table, queries, strict=True):
        row[: len(groups)] = groups
    return Counts(table[..., 0], table[..., 1])


def orders(groups: list[tuple[int, int]]) -> list[list[bool]]:
    """Every order of the items, each tied group in all its permutations: equally likely."""
    inside = [list(permutations([True] * r + [False] * (n - r))) for n, r in groups]
    return [list(chain.from_iterable(choice)) for choice in product(*inside)]


def truth(order: list[bool], k: int, divisor: str) -> float:
    """Average precision of one order, straight from its definition."""
    top = order[:k]
    total = sum(sum(top[: i + 1]) / (i + 1) for i, hit in enumerate(top) if hit)
    below = {"all": sum(order), "least": min(sum(order), k), "found": sum(top)}[divisor]
    return total / below if below else 0.0


@settings(max_examples=60, deadline=None)
@given(SMALL)
def test_average_precision_is_the_mean_over_all_orders(groups):
    values = [truth(order, 99, "all") for order in orders(groups)]
    assert average_precision(counts(groups))[0] == pytest.approx(np.mean(values), abs=1e-12)
    low, high = average_precision_bounds(counts(groups))
    assert (low[0], high[0]) == (pytest.approx(min(values), abs=1e-12), pytest.approx(max(values), abs=1e-12))


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(1, 11))
def test_average_precision_at_k_is_the_mean_over_all_orders(groups, k):
    values = [truth(order, k, "least") for order in orders(groups)]
    assert average_precision(counts(groups), k)[0] == pytest.approx(np.mean(values), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(1, 11))
def test_the_published_convention_over_all_orders(groups, k):
    values = [truth(order, k, "found") for order in orders(groups)]
    ours = published(counts(groups), k)
    assert ours.expected[0] == pytest.approx(np.mean(values), abs=1e-12)
    assert ours.lowest[0] == pytest.approx(min(values), abs=1e-12)
    assert ours.highest[0] == pytest.approx(max(values), abs=1e-12)
    assert min(abs(ours.shuffled[0] - value) for value in values) < 1e-12  # one of the orders


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(1, 11))
def test_precision_at_n_is_the_mean_over_all_orders(groups, n):
    values = [sum(order[:n]) / len(order[:n]) for order in orders(groups)]
    assert precision_at(counts(groups), n)[0] == pytest.approx(np.mean(values), abs=1e-12)


def test_one_early_hit_beats_two_only_in_the_published_convention():
    one, two = [(1, 1), (2, 0), (1, 1)], [(1, 1), (1, 0), (1, 1), (1, 0)]
    assert average_precision(counts(one, two), 3).tolist() == pytest.approx([1 / 2, 5 / 6])
    assert published(counts(one, two), 3).expected.tolist() == pytest.approx([1, 5 / 6])


def test_shuffles_follow_their_seed_and_average_to_the_expectation():
    many = counts(*[[(3, 1), (8, 3), (20, 5)]] * 4000)
    first, again, other = (published(many, 7, seed).shuffled for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    spread = first.std() / np.sqrt(len(first))
    assert first.mean() == pytest.approx(published(many, 7).expected[0], abs=4 * spread)


def test_without_ties_it_is_scikit_learns():
    random = np.random.default_rng(0)
    for _ in range(20):
        relevant = random.random(40) < 0.3
        relevant[0] = True
        random.shuffle(relevant)
        groups = [(1, int(hit)) for hit in relevant]
        expected = average_precision_score(relevant, -np.arange(40))
        assert average_precision(counts(groups))[0] == pytest.approx(expected, abs=1e-12)
        low, high = average_precision_bounds(counts(groups))
        assert low[0] == pytest.approx(high[0], abs=1e-12)
        assert published(counts(groups), 40).shuffled[0] == pytest.approx(expected, abs=1e-12)


def test_large_groups_keep_their_digits():
    """One group of all items: the sum over places, in exact order, by plain addition."""
    n, r = 50_000, 5_000
    places = np.arange(1, n + 1)
    expected = np.sum((1 + (places - 1) * (r - 1) / (n - 1)) / places) / n
    assert average_precision(counts([(n, r)]))[0] == pytest.approx(expected, rel=1e-10)
    wide = published(counts([(n, r)]), 1000)
    assert wide.lowest[0] <= wide.expected[0] <= wide.highest[0]
    assert wide.highest[0] == pytest.approx(1.0)
    assert wide.lowest[0] == 0.0


def test_nothing_relevant_and_nothing_at_all_count_as_zero():
    none = counts([(3, 0), (2, 0)], [(0, 0), (0, 0)])
    ours = published(none, 2)
    for values in (
        average_precision(none),
        average_precision(none, 2),
        *average_precision_bounds(none),
        precision_at(none, 2),
        precision_within(none, 1),
        ours.expected,
        ours.lowest,
        ours.highest,
        ours.shuffled,
    ):
        assert values.tolist() == [0, 0]
    assert none.possible.tolist() == [0, 0]


def test_an_empty_ball_has_precision_zero():
    table = counts([(0, 0), (0, 0), (0, 0), (5, 5)], [(1, 1), (0, 0), (1, 0), (9, 9)])
    assert precision_within(table, 2).tolist() == [0, 0.5]
    precision, recall = curve(table)
    assert precision.tolist() == pytest.approx([0.5, 0.5, 0.25, (1 + 10 / 11) / 2])
    assert recall.tolist() == pytest.approx([0.05, 0.05, 0.05, 1])


@given(SMALL, st.integers(0, 4))
def test_precision_within_a_radius_is_a_share(groups, radius):
    found = [i < r for n, r in groups[: radius + 1] for i in range(n)]
    assert precision_within(counts(groups), radius)[0] == pytest.approx(np.mean(found) if found else 0)
    if radius < len(groups):
        assert curve(counts(groups))[0][radius] == precision_within(counts(groups), radius)[0]


@pytest.mark.parametrize("bits", [3, 12, 48, 70, 300])
def test_counts_are_brute_force_and_faiss(bits, monkeypatch):
    monkeypatch.setattr("hashpress.hashnets.retrieval.metrics.PAIRS", 200)
    random = np.random.default_rng(bits)
    queries = np.packbits(random.random((23, bits)) < 0.5, axis=1, bitorder="little")
    database = np.packbits(random.random((61, bits)) < 0.5, axis=1, bitorder="little")
    asked, stored = random.integers(0, 4, 23), random.integers(1, 5, 61)
    ours = count(queries, database, bits, ClassLabels(asked).relevance(ClassLabels(stored)))
    assert ours.items.shape == (23, bits + 1)
    index = faiss.IndexBinaryFlat(database.shape[1] * 8)
    index.add(database)
    distances, neighbours = index.search(queries, 61)
    for q in range(23):
        hits = stored[neighbours[q]] == asked[q]
        assert (ours.items[q] == np.bincount(distances[q], minlength=bits + 1)).all()
        assert (ours.relevant[q] == np.bincount(distances[q][hits], minlength=bits + 1)).all()
    assert (ours.possible == (asked[:, None] == stored).sum(1)).all()


def test_relevance_may_be_any_relation():
    """Several labels each: an item is relevant when it shares one."""
    random = np.random.default_rng(0)
    asked, stored = random.random((9, 5)) < 0.3, random.random((30, 5)) < 0.3
    queries, database = random.integers(0, 4, (9, 1), np.uint8), random.integers(0, 4, (30, 1), np.uint8)
    ours = count(queries, database, 2, lambda block: (asked[block] @ stored.T) > 0)
    assert (ours.possible == (asked.astype(int) @ stored.T.astype(int) > 0).sum(1)).all()


@pytest.mark.slow
def test_the_size_of_cifar_takes_seconds():
    random = np.random.default_rng(0)
    queries, database = random.integers(0, 256, (10_000, 6), np.uint8), random.integers(0, 256, (50_000, 6), np.uint8)
    asked, stored = random.integers(0, 10, 10_000), random.integers(0, 10, 50_000)
    ours = count(queries, database, 48, ClassLabels(asked).relevance(ClassLabels(stored)))
    assert average_precision(ours).mean() == pytest.approx(0.1, abs=1e-3)
    assert ours.items.sum() == 10_000 * 50_000
