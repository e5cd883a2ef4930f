"""Retrieval metrics that do not depend on the order of ties: expectations and bounds over all orders.

Hamming distances are small integers, so that whole groups of items share a rank. Everything here follows from how
many items, and how many relevant ones, lie at each distance from each query: O(n) per query (McSherry and Najork
2008, "Computing information retrieval performance measures efficiently in the presence of tied scores").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.data.labels import Relevance
from ...core.progress import track
from .codes import PAIRS, word_distances, words


@dataclass(frozen=True, eq=False)
class Counts:
    """Per query and distance 0..K: all items and the relevant ones, (Q, K+1) int64 each."""

    items: np.ndarray
    relevant: np.ndarray

    @property
    def items_before(self) -> np.ndarray:
        """Items at smaller distances."""
        return np.cumsum(self.items, axis=1) - self.items

    @property
    def relevant_before(self) -> np.ndarray:
        """Relevant items at smaller distances."""
        return np.cumsum(self.relevant, axis=1) - self.relevant

    @property
    def possible(self) -> np.ndarray:
        """Relevant items of each query, (Q,)."""
        return self.relevant.sum(1)

    def inside(self, k: int | None) -> np.ndarray:
        """Return how many places of the first ``k`` each distance fills; of all without ``k``."""
        return self.items if k is None else np.clip(k - self.items_before, 0, self.items)


def count(queries_nb: np.ndarray, database_nb: np.ndarray, bits: int, relevance: Relevance) -> Counts:
    """Return the counts of all queries against the database; memory for ``PAIRS`` pairs and the result."""
    queries, database = words(queries_nb), words(database_nb)
    total, size, width = queries.shape[1], database.shape[1], bits + 1
    step = min(4096, max(1, PAIRS // max(1, size)))
    found = np.empty((total, 2, width), dtype=np.int64)
    for start in track(range(0, total, step), "searching"):
        block = slice(start, min(start + step, total))
        rows = block.stop - block.start
        keys = word_distances(queries[:, block], database).astype(np.int32)
        keys += relevance(block) * np.int32(width)
        keys += np.arange(0, rows * 2 * width, 2 * width, dtype=np.int32)[:, None]
        found[block] = np.bincount(keys.ravel(), minlength=rows * 2 * width).reshape(rows, 2, width)
    return Counts(found.sum(1), found[:, 1])


def harmonics(count: int) -> np.ndarray:
    """Return H(0)..H(count)."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, count + 1))])


def divided(value: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Return the quotient, 0 where the divisor is 0."""
    return np.divide(value, divisor, out=np.zeros(np.broadcast(value, divisor).shape), where=divisor != 0)


def expected_sums(counts: Counts, k: int | None = None) -> np.ndarray:
    """Return per query and distance what its places among the first ``k`` add to the sum of precisions, expected.

    With N items and R relevant before a group of n items, r relevant: place i adds
    (r/n) (R + 1 + (i-1) (r-1)/(n-1)) / (N + i); the sum over i closes with harmonic numbers.
    """
    harmonic = harmonics(int(counts.items.sum(1).max(initial=0)))
    before, hits, places = counts.items_before, counts.relevant_before, counts.inside(k)
    slope = divided(counts.relevant - 1.0, counts.items - 1.0)
    tail = harmonic[before + places] - harmonic[before]
    return divided(counts.relevant, counts.items) * ((hits + 1 - slope * (before + 1)) * tail + slope * places)


def average_precision(counts: Counts, k: int | None = None) -> np.ndarray:
    """Return the expected average precision of each query, (Q,): full list, or the first ``k`` over min(R, k).

    Queries without relevant items count as 0.
    """
    possible = counts.possible
    divisor = possible if k is None else np.minimum(possible, k)
    return divided(expected_sums(counts, k).sum(1), divisor)


def average_precision_bounds(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest average precision, (Q,) each, that an order of ties can give the full list."""
    harmonic = harmonics(int(counts.items.sum(1).max(initial=0)))
    before, hits, r = counts.items_before, counts.relevant_before, counts.relevant
    first = run_of_hits(harmonic, hits, before, r).sum(1)
    last = run_of_hits(harmonic, hits, before + counts.items - r, r).sum(1)
    return divided(last, counts.possible), divided(first, counts.possible)


def run_of_hits(harmonic: np.ndarray, hits: np.ndarray, before: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the sum of precisions of ``length`` hits in a row after ``before`` places with ``hits``: (R+j)/(N+j)."""
    return length + (hits - before) * (harmonic[before + length] - harmonic[before])


def precision_at(counts: Counts, n: int) -> np.ndarray:
    """Return the expected share of relevant items among the first ``n`` (or all, when fewer), (Q,)."""
    places = counts.inside(n)
    hits = divided(counts.relevant * places, counts.items).sum(1)
    return divided(hits, places.sum(1))


def precision_within(counts: Counts, radius: int) -> np.ndarray:
    """Return the share of relevant items within a Hamming radius, (Q,); an empty ball counts as 0."""
    return divided(counts.relevant[:, : radius + 1].sum(1), counts.items[:, : radius + 1].sum(1))


def curve(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return mean precision and mean recall within each radius 0..K, (K+1,) each; free of ties."""
    found, hits = np.cumsum(counts.items, axis=1), np.cumsum(counts.relevant, axis=1)
    if not len(found):
        return np.zeros(found.shape[1]), np.zeros(found.shape[1])
    return divided(hits, found).mean(0), divided(hits, counts.possible[:, None]).mean(0)
