"""Average precision at k as most published code has it: divided by the relevant items *found* among the first k.

A query with one hit at rank 1 scores 1.0 and beats hit-miss-hit, 5/6; so decisions go by ``average_precision`` and
this exists to compare with printed tables. The divisor is random inside the group of ties that k cuts: the
expectation runs over its hypergeometric law, the bounds over every order, and one seeded shuffle shows what a
program that ranks by index would have printed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .metrics import Counts, divided, expected_sums, harmonics, run_of_hits


@dataclass(frozen=True, eq=False)
class Published:
    """Per query, (Q,) each: the expectation, both bounds, and one random order."""

    expected: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    shuffled: np.ndarray


@dataclass(frozen=True, eq=False)
class _Cut:
    """The group that k cuts, and what lies before it; (Q,) each. Without such a group ``places`` is 0."""

    places: np.ndarray  # of the group among the first k
    items: np.ndarray
    relevant: np.ndarray
    before: np.ndarray
    hits: np.ndarray  # in the groups before it


def published(counts: Counts, k: int, seed: int = 0) -> Published:
    """Return the average precision at ``k`` over the relevant items found, 0 where none is found."""
    harmonic = harmonics(int(counts.items.sum(1).max(initial=0)))
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(harmonic))))])
    cut, whole = _cut(counts, k)
    before, hits, r = counts.items_before, counts.relevant_before, counts.relevant
    expected = (expected_sums(counts) * whole).sum(1)
    low = (run_of_hits(harmonic, hits, before + counts.items - r, r) * whole).sum(1)
    high = (run_of_hits(harmonic, hits, before, r) * whole).sum(1)
    for q in range(len(expected)):
        m, n, r_q = int(cut.places[q]), int(cut.items[q]), int(cut.relevant[q])
        f = np.arange(max(0, m - (n - r_q)), min(r_q, m) + 1)  # hits that may fall into the places left
        found = cut.hits[q] + f
        chance = np.exp(_choose(logs, r_q, f) + _choose(logs, n - r_q, m - f) - _choose(logs, n, np.array(m)))
        slope = (f - 1) / max(1, m - 1)
        tail = harmonic[cut.before[q] + m] - harmonic[cut.before[q]]
        inside = f / max(1, m) * ((cut.hits[q] + 1 - slope * (cut.before[q] + 1)) * tail + slope * m)
        expected[q] = (chance * divided(expected[q] + inside, found)).sum()
        low[q] = divided(low[q] + run_of_hits(harmonic, cut.hits[q], cut.before[q] + m - f, f), found).min()
        high[q] = divided(high[q] + run_of_hits(harmonic, cut.hits[q], cut.before[q], f), found).max()
    return Published(expected, low, high, _shuffled(counts, cut, whole, seed))


def _cut(counts: Counts, k: int) -> tuple[_Cut, np.ndarray]:
    inside = counts.inside(k)
    whole = inside == counts.items
    torn = ~whole & (inside > 0)

    def of(values: np.ndarray) -> np.ndarray:
        return (values * torn).sum(1)

    nearer = (counts.relevant * whole).sum(1)
    return _Cut(of(inside), of(counts.items), of(counts.relevant), of(counts.items_before), nearer), whole


def _choose(logs: np.ndarray, n: int, k: np.ndarray) -> np.ndarray:
    """Return the logarithm of the binomial coefficient."""
    return logs[n] - logs[k] - logs[n - k]


def _shuffled(counts: Counts, cut: _Cut, whole: np.ndarray, seed: int) -> np.ndarray:
    """Return the value of one random order of the ties."""
    random = np.random.default_rng(seed)
    drawn = random.hypergeometric(cut.relevant, cut.items - cut.relevant, cut.places)
    result = np.zeros(len(drawn))
    for q, extra in enumerate(drawn):
        hits = np.append(counts.relevant[q][whole[q]], extra)
        places = np.append(counts.items[q][whole[q]], cut.places[q])
        group = np.repeat(np.arange(len(places)), places)
        hit = np.repeat(np.tile([True, False], len(places)), np.stack([hits, places - hits], axis=1).ravel())
        hit = hit[np.lexsort((random.random(len(hit)), group))]
        found = np.cumsum(hit)
        if hit.any():
            result[q] = (found / np.arange(1, len(hit) + 1))[hit].mean()
    return result
