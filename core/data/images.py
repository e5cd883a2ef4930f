"""Labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..errors import DataError
from .items import BLOCK, Items, Selection, Values, fitting_batch
from .split import Split

Pixels = Values


@dataclass(frozen=True, eq=False)
class Images(Items):
    """Pixels (N, C, H, W) uint8, an array or a memory map, with their labels; errors as :class:`Items`."""

    noun: ClassVar[str] = "images"

    def check_values(self) -> None:
        """Raise DataError unless the values are images."""
        if self.values.ndim != 4 or self.values.dtype != np.uint8:
            raise DataError(f"images are uint8 (N, C, H, W), found {self.values.dtype} {self.values.shape}")

    @property
    def pixels(self) -> np.ndarray:
        """The values, (N, C, H, W) uint8."""
        return self.values

    @cached_property
    def histogram(self) -> np.ndarray:
        """How often each channel has each value, (C, 256)."""
        channels = self.shape[0]
        counts = np.zeros((channels, 256), dtype=np.int64)
        for block in self.batches():
            for channel in range(channels):
                counts[channel] += np.bincount(block[:, channel].ravel(), minlength=256)
        return counts

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, on the scale 0 to 1."""
        counts = self.histogram
        return tuple(float(value) for value in counts @ np.arange(256) / counts.sum(1) / 255)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, on the scale 0 to 1; 1 where all pixels are equal."""
        counts = self.histogram
        square = counts @ np.arange(256) ** 2 / counts.sum(1) / 255**2
        spread = np.sqrt(np.maximum(square - np.square(self.mean), 0))
        return tuple(float(value) if value > 1e-6 else 1.0 for value in spread)


__all__ = ["BLOCK", "Images", "Pixels", "Selection", "Split", "fitting_batch"]
