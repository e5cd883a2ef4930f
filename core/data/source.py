"""What a source gives before a protocol divides it: a train part, often a test part, and the names of the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .items import Items
from .labels import ClassLabels


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a source, each in an order that has nothing to do with the class."""

    train: Items
    test: Items | None
    classes: tuple[str, ...]


def shuffled(count: int) -> np.ndarray:
    """Return the one order, the same on every machine, in which sources hand out ``count`` items.

    Files come class by class; whoever takes the first thousand of them for calibration must not get one class.
    """
    return np.random.default_rng(count).permutation(count)


def limited(items: Items, limit: int) -> Items:
    """Return at most ``limit`` items, every class in its proportion; of those without one class each any."""
    if limit >= len(items):
        return items
    labels = items.labels if items.label_type is ClassLabels else np.zeros(len(items), dtype=np.int64)
    return items.take(stratified(labels, limit, seed=0))


def stratified(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Return the ascending indices of ``limit`` items, every class in its proportion."""
    if limit >= len(labels):
        return np.arange(len(labels))
    random = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (random.permutation(len(members)) + 0.5) / len(members)
    order = np.lexsort((random.random(len(labels)), place))
    return np.sort(order[:limit])
