"""Which items train, which ask and which are found: the protocols that published figures use.

They move the same method by 0.1 and more, so that a figure without its protocol means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import DataError, lookup
from .labels import ClassLabels, PairLabels
from .source import Parts, stratified
from .split import Split

HOLD_OUT = 5  # one item in five becomes a query where a source has no test part

PROTOCOLS = {
    "A": "100 queries and 500 training items of each class, database = all but the queries (DPSH, DSDH, DTSH)",
    "A-excl": "as A, the database without the training items (DCH, HashNet's successors)",
    "B": "queries = test part, training items = database = train part (DSH, DLBHC, DSDH's second setting)",
}


def divide(parts: Parts, name: str, protocol: str, seed: int, validation: float | None = None) -> Split:
    """Return the split that ``protocol`` makes of ``parts``, ``validation`` training items (or that share) held out.

    Raises:
        DataError: an unknown protocol, or a class with too few items.
    """
    lookup(PROTOCOLS, protocol, "protocol", DataError)
    split, train, database = (
        _protocol_b(parts, name, seed) if protocol == "B" else _protocol_a(parts, name, protocol, seed)
    )
    return split if validation is None else _held_out(split, train, database, validation, seed)


Divided = tuple[Split, np.ndarray, np.ndarray]  # which items of the pool the training items and the database are


def _held_out(split: Split, train: np.ndarray, database: np.ndarray, amount: float, seed: int) -> Split:
    """Hold items out of the training items and, wherever they are in it, out of the database."""
    split, chosen = hold_out(split, amount, seed)
    rest = ~np.isin(database, train[chosen])
    return replace(split, database=split.train if np.array_equal(database, train) else split.database.take(rest))


def hold_out(split: Split, amount: float, seed: int) -> tuple[Split, np.ndarray]:
    """Return ``split`` with ``amount`` training items (below 1: that share) held out, and which; the database stays.

    Every class is held out in its proportion, where items have one class each.

    Raises:
        DataError: more items than there are.
    """
    items = split.train
    count = amount if isinstance(amount, int) else max(1, round(amount * len(items)))
    if not 0 < count < len(items):
        raise DataError(
            f"{split.name}: cannot hold {count:,} of {len(items):,} training {items.noun} out for validation"
        )
    labels = items.labels if items.label_type is ClassLabels else np.zeros(len(items), dtype=np.int64)
    chosen = stratified(labels, count, seed)
    rest = np.setdiff1d(np.arange(len(items)), chosen)
    return replace(split, train=items.take(rest), held_out=items.take(chosen)), chosen


def _protocol_b(parts: Parts, name: str, seed: int) -> Divided:
    if parts.test is not None:
        whole = np.arange(len(parts.train))
        return Split(name, "B", parts.train, parts.test, parts.train, parts.classes), whole, whole
    pool, words = parts.train, f"B (1/{HOLD_OUT} of each class held out, seed {seed})"
    if pool.label_type is ClassLabels:
        queries, _ = _drawn(parts, pool.labels, seed, lambda count: (max(1, round(count / HOLD_OUT)), 0))
    else:
        if len(pool) < 2:
            raise DataError(f"{name}: dividing takes at least two {pool.noun}, found {len(pool)}")
        queries = np.random.default_rng(seed).permutation(len(pool))[: max(1, round(len(pool) / HOLD_OUT))]
        words = f"B (1/{HOLD_OUT} held out, seed {seed})"
    rest = np.setdiff1d(np.arange(len(pool)), queries)
    train = pool.take(rest)
    paired = pool.label_type is PairLabels  # the other half of a pair is all that is relevant
    split = Split(name, words, train, pool.take(queries), pool if paired else train, parts.classes)
    return split, rest, np.arange(len(pool)) if paired else rest


def _protocol_a(parts: Parts, name: str, protocol: str, seed: int) -> Divided:
    """Draw queries and training items out of all parts; of a small class 1/12 and 5/12 instead of 100 and 500."""
    pool = parts.train if parts.test is None else parts.train.joined(parts.test)
    if pool.label_type is PairLabels:
        raise DataError(f"{name}: protocol {protocol} draws from classes, and pairs have none; take protocol B")
    queries, train = _drawn(
        parts, pool.labels, seed, lambda count: (min(100, max(1, count // 12)), min(500, max(1, 5 * count // 12)))
    )
    taken = queries if protocol == "A" else np.concatenate([queries, train])
    database = np.setdiff1d(np.arange(len(pool)), taken)
    if not len(database):
        raise DataError(f"{name}: protocol {protocol} leaves no database of {len(pool)} {pool.noun}")
    words = f"{protocol} (seed {seed})"
    split = Split(name, words, pool.take(train), pool.take(queries), pool.take(database), parts.classes)
    return split, train, database


def _drawn(
    parts: Parts, labels: np.ndarray, seed: int, quota: Callable[[int], tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of two disjoint draws, ``quota(size of the class)`` items of each class, in random order.

    An item of several classes is drawn for one of them.
    """
    random = np.random.default_rng(seed)
    taken = np.zeros(len(labels), dtype=bool)
    draws: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label, name in enumerate(parts.classes):
        belongs = labels == label if labels.ndim == 1 else labels[:, label]
        members = random.permutation(np.flatnonzero(belongs & ~taken))
        if len(members) < 2 and labels.ndim > 1:
            continue  # its items serve other classes
        if len(members) < 2:
            raise DataError(f"class {name} has {len(members)} {parts.train.noun}; dividing it takes at least two")
        first, second = quota(len(members))
        draws[0].append(members[:first])
        draws[1].append(members[first : first + second])
        taken[members[: first + second]] = True
    queries, train = (random.permutation(np.concatenate(draw)) for draw in draws)
    return queries, train
