"""The sets that a retrieval experiment needs: training items, queries, a database and, held out, items for validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from ..errors import DataError
from .items import Items
from .labels import PairLabels, Relevance


@dataclass(frozen=True, eq=False)
class Split:
    """Training items, queries and the database they search, with the protocol that chose them.

    ``held_out`` are training items that train nothing: settings are chosen on them (:attr:`validation`), so that the
    queries decide nothing. They are in none of the three other sets.
    """

    name: str
    protocol: str
    train: Items
    queries: Items
    database: Items
    classes: tuple[str, ...]
    held_out: Items | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, for provenance."""
        content = hashlib.sha256(repr(self.classes).encode())
        parts = (self.train, self.queries, self.database, self.held_out)
        for items in (part for part in parts if part is not None):
            content.update(bytes.fromhex(items.digest))
        return content.hexdigest()

    @property
    def validation(self) -> Split:
        """The held-out training items as queries, the training items as the database that they search.

        Raises:
            DataError: nothing was held out.
        """
        if self.held_out is None:
            raise DataError(
                f"{self.name} has no validation part; hold one out of the training {self.train.noun} with "
                "?validation=0.1 (a share) or ?validation=5000 (a number)"
            )
        words = f"{self.protocol}, validation on {len(self.held_out):,} held-out training {self.train.noun}"
        paired = self.train.label_type is PairLabels  # the other half of a pair is all that is relevant
        database = self.train.joined(self.held_out) if paired else self.train
        return Split(self.name, words, self.train, self.held_out, database, self.classes)

    @property
    def for_settings(self) -> Split:
        """What figures that somebody may choose settings by are measured on: :attr:`validation` where it was held out."""
        return self if self.held_out is None else self.validation

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
        held_out = "" if self.held_out is None else f"{len(self.held_out):,} validation, "
        shape = "x".join(map(str, self.train.shape))
        return (
            f"{self.name}, protocol {self.protocol}: {len(self.train):,} train, {len(self.queries):,} queries, "
            f"{len(self.database):,} database, {held_out}{len(self.classes)} classes, {shape or self.train.noun}"
        )
