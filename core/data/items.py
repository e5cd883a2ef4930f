"""Labelled items of any kind (images, vectors, texts) in memory or mapped from disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from ..errors import DataError
from .labels import ClassLabels, MultiLabels

BLOCK = 4096  # items touched at once, so that mapped sets never come into memory whole


@dataclass(frozen=True, eq=False)
class Selection:
    """Chosen items of a set; a part of them comes into memory when it is asked for, as of an array."""

    whole: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        return self.whole[self.index[part]]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...), the shape of the chosen items."""
        return len(self.index), *self.whole.shape[1:]


Values = np.ndarray | Selection  # what is only ever looked at part by part


def fitting_batch(values: Values, most: int, numbers: int) -> int:
    """Return how many items may run together: at most ``most``, and fewer of large ones, with ``numbers`` numbers."""
    return max(1, min(most, len(values), numbers // max(int(np.prod(values.shape[1:])), 1)))


@dataclass(frozen=True, eq=False)
class Items:
    """``values`` (n, ...), an array or a memory map, with their labels; subclasses say of which type and shape.

    Labels are int64 (n,), one class each, or bool (n, classes), any number of classes each; ``label_type`` is given where
    they mean something else, ``PairLabels``.

    Raises:
        DataError: values of another type or shape, labels of another type, or not one for each item.
    """

    values: np.ndarray
    labels: np.ndarray
    label_type: type[ClassLabels] = ClassLabels

    noun: ClassVar[str] = "items"

    def __post_init__(self) -> None:
        self.check_values()
        if self.label_type is ClassLabels and self.labels.ndim == MultiLabels.dimensions:
            object.__setattr__(self, "label_type", MultiLabels)
        if not self.label_type.fits(self.labels) or len(self.labels) != len(self.values):
            raise DataError(
                f"{len(self.values)} {self.noun} need int64 labels ({len(self.values)},) or bool labels "
                f"({len(self.values)}, classes), found {self.labels.dtype} {self.labels.shape}"
            )

    def check_values(self) -> None:
        """Raise DataError unless the values have the type and shape of this kind of item."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item as it is stored."""
        return self.values.shape[1:]

    @property
    def typed_labels(self) -> ClassLabels:
        """The labels as what they mean: class labels, multi-labels or pair labels."""
        return self.label_type(self.labels)

    def select(self, index: np.ndarray) -> Selection:
        """Return the values at ``index``, in its order, without a copy."""
        return Selection(self.values, index)

    def take(self, index: np.ndarray | slice) -> Self:
        """Return the items at ``index``, in its order; a slice is a view, anything else a copy in memory."""
        return type(self)(self.values[index], self.labels[index], self.label_type)

    def batches(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """Yield the values in order, at most ``size`` at once."""
        for start in range(0, len(self), size):
            yield self.values[start : start + size]

    def joined(self, other: Self) -> Self:
        """Return these items and then those of ``other``.

        Raises:
            DataError: items of another kind, shape or kind of labels.
        """
        if type(other) is not type(self) or self.shape != other.shape or self.label_type is not other.label_type:
            raise DataError(f"train and test {self.noun} differ: {self.shape} and {other.shape}")
        values, labels = (np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("values", "labels"))
        return type(self)(values, labels, self.label_type)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, values and labels, in order."""
        content = hashlib.sha256(repr(self.values.shape).encode())
        for block in self.batches():
            content.update(self._bytes(block))
        content.update(np.ascontiguousarray(self.labels, dtype="<i8" if self.labels.ndim == 1 else np.bool_).data)
        return content.hexdigest()

    def _bytes(self, block: np.ndarray) -> bytes | memoryview:
        return np.ascontiguousarray(block).data
