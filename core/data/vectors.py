"""Labelled vectors: bag-of-words counts, sensor readings, features of another network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..errors import DataError
from .items import Items


@dataclass(frozen=True, eq=False)
class Vectors(Items):
    """Numbers (n, d) of any real type, all finite, with their labels; errors as :class:`Items`."""

    noun: ClassVar[str] = "vectors"

    def check_values(self) -> None:
        """Raise DataError unless the values are finite numbers (n, d)."""
        if self.values.ndim != 2 or self.values.dtype.kind not in "biuf":
            raise DataError(f"vectors are numbers (n, d), found {self.values.dtype} {self.values.shape}")
        for block in self.batches():
            if not np.isfinite(block).all():
                raise DataError("vectors must be finite, found NaN or infinity")

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each feature, float64 (d,); the latter 1 where all values are equal."""
        mean = sum(block.sum(0, dtype=np.float64) for block in self.batches()) / len(self)
        square = sum(np.square(block - mean).sum(0) for block in self.batches()) / len(self)
        std = np.sqrt(square)
        return mean, np.where(std > 1e-6 * np.maximum(1, np.abs(mean)), std, 1.0)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each feature."""
        return tuple(map(float, self.moments[0]))

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each feature; 1 where all values are equal."""
        return tuple(map(float, self.moments[1]))
