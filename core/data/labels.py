"""Labels of items, and the one question that retrieval and losses ask of them: which items are relevant to which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..errors import DataError

Relevance = Callable[[slice], np.ndarray]  # queries of the slice to bool (queries, database items)
Array = TypeVar("Array", bound=Any)  # a numpy array or a torch tensor


def relevance(queries: Array, database: Array) -> Array:
    """Return bool (Q, N): whether an item is relevant to a query, for the rows of labels of both.

    Numbers (Q,) and (N,) must be equal; rows (Q, C) and (N, C) of zeros and ones must have a one in common.
    """
    if queries.ndim == 1:
        return queries[:, None] == database
    return queries @ database.T > 0


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """One class per item, (n,) int64; items of one class are relevant to each other."""

    values: np.ndarray

    dtype: ClassVar[type[np.generic]] = np.int64
    dimensions: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.fits(self.values):
            raise DataError(
                f"{type(self).__name__} take {np.dtype(self.dtype)} labels of {self.dimensions} dimension(s), "
                f"found {self.values.dtype} {self.values.shape}"
            )

    @classmethod
    def fits(cls, values: np.ndarray) -> bool:
        """Return whether an array has the type and the dimensions of these labels."""
        return values.ndim == cls.dimensions and values.dtype == cls.dtype

    def __len__(self) -> int:
        return len(self.values)

    def relevance(self, database: ClassLabels) -> Relevance:
        """Return a function from a slice of these items, the queries, to their rows of :func:`relevance`.

        Raises:
            DataError: the database has labels of another kind or of other classes.
        """
        if type(database) is not type(self) or database.values.shape[1:] != self.values.shape[1:]:
            raise DataError(
                f"queries with {type(self).__name__} {self.values.shape} cannot search a database with "
                f"{type(database).__name__} {database.values.shape}"
            )
        queries, stored = self._comparable(database)
        return lambda block: relevance(queries[block], stored)

    def _comparable(self, database: ClassLabels) -> tuple[np.ndarray, np.ndarray]:
        """Return both sides in the type that compares fastest."""
        _, numbers = np.unique(np.concatenate([self.values, database.values]), return_inverse=True)
        small = numbers.astype(np.min_scalar_type(len(numbers)))
        return small[: len(self)], small[len(self) :]


@dataclass(frozen=True, eq=False)
class PairLabels(ClassLabels):
    """The number of the pair, or group, of each item, (n,) int64: relevant is what has the same number.

    For data without classes, such as photographs and their captions.
    """


@dataclass(frozen=True, eq=False)
class MultiLabels(ClassLabels):
    """Any number of classes per item, bool (n, classes); items that share a class are relevant to each other."""

    dtype: ClassVar[type[np.generic]] = np.bool_
    dimensions: ClassVar[int] = 2

    def _comparable(self, database: ClassLabels) -> tuple[np.ndarray, np.ndarray]:
        return self.values.astype(np.float32), database.values.astype(np.float32)  # whose product BLAS computes


def read_labels(
    values: np.ndarray, classes: Sequence[str] | np.ndarray | None, where: str
) -> tuple[ClassLabels, tuple[str, ...]]:
    """Return labels as a file holds them, and the names of the classes.

    One label each, (n,), numbers or strings, becomes class labels: numbers count into ``classes`` where those are
    given. Rows (n, classes) of zeros and ones become multi-labels.

    Raises:
        DataError: other values, or numbers that ``classes`` does not have.
    """
    if values.ndim == MultiLabels.dimensions and values.dtype.kind in "biu" and np.isin(values, (0, 1)).all():
        names = tuple(map(str, classes if classes is not None else range(values.shape[1])))
        if len(names) != values.shape[1]:
            raise DataError(f"{where} has {len(names)} names of classes and labels for {values.shape[1]}")
        return MultiLabels(values.astype(bool)), names
    if values.ndim != 1 or values.dtype.kind not in "iuUO":
        raise DataError(
            f"{where}: labels are numbers or strings (n,), or zeros and ones (n, classes); "
            f"found {values.dtype} {values.shape}"
        )
    if classes is not None and values.dtype.kind in "iu":
        if len(values) and not 0 <= values.min() <= values.max() < len(classes):
            raise DataError(f"{where}: labels {values.min()} to {values.max()} do not count {len(classes)} classes")
        return ClassLabels(values.astype(np.int64)), tuple(map(str, classes))
    found, numbers = np.unique(values, return_inverse=True)
    return ClassLabels(numbers.astype(np.int64)), tuple(map(str, found))
