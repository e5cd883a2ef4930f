"""The three sets that a retrieval experiment needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from ..errors import DataError
from .items import Items
from .labels import Relevance


@dataclass(frozen=True, eq=False)
class Split:
    """Training items, queries and the database they search, with the protocol that chose them."""

    name: str
    protocol: str
    train: Items
    queries: Items
    database: Items
    classes: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, for provenance."""
        content = hashlib.sha256(repr(self.classes).encode())
        for items in (self.train, self.queries, self.database):
            content.update(bytes.fromhex(items.digest))
        return content.hexdigest()

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, or feature, of the training items."""
        return self._statistic("mean")

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, or feature, of the training items; 1 where all are equal."""
        return self._statistic("std")

    def relevance(self) -> Relevance:
        """Return a function from a slice of the queries to bool (queries, database): which items are relevant."""
        return self.queries.typed_labels.relevance(self.database.typed_labels)

    def _statistic(self, name: str) -> tuple[float, ...]:
        value = getattr(self.train, name, None)
        if value is None:
            raise DataError(f"{self.name}: {self.train.noun} have no {name}")
        return value  # type: ignore[no-any-return]  # a tuple wherever it exists

    def __str__(self) -> str:
        shape = "x".join(map(str, self.train.shape))
        return (
            f"{self.name}, protocol {self.protocol}: {len(self.train):,} train, {len(self.queries):,} queries, "
            f"{len(self.database):,} database, {len(self.classes)} classes, {shape or self.train.noun}"
        )
