"""Labelled images in memory or mapped from disk, and the three sets a retrieval experiment needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import DataError

BLOCK = 4096  # images touched at once, so that mapped sets never come into memory whole


@dataclass(frozen=True, eq=False)
class Selection:
    """Chosen images (n, C, H, W) of a set; a part of them comes into memory when it is asked for, as of an array."""

    whole: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        return self.whole[self.index[part]]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W)."""
        return len(self.index), *self.whole.shape[1:]


Pixels = np.ndarray | Selection  # what is only ever looked at part by part


def together(pixels: Pixels, most: int, values: int) -> int:
    """Return how many images may run together: at most ``most``, and fewer of large ones, with ``values`` values."""
    return max(1, min(most, len(pixels), values // max(int(np.prod(pixels.shape[1:])), 1)))


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels (N, C, H, W) uint8, an array or a memory map, with one label each, (N,) int64.

    Raises:
        DataError: other types or shapes, or as many labels as there are no images for.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8:
            raise DataError(f"images are uint8 (N, C, H, W), found {self.pixels.dtype} {self.pixels.shape}")
        if self.labels.shape != self.pixels.shape[:1] or self.labels.dtype != np.int64:
            raise DataError(
                f"{len(self.pixels)} images need int64 labels ({len(self.pixels)},), "
                f"found {self.labels.dtype} {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, index: np.ndarray) -> Selection:
        """Return the pixels at ``index``, in its order, without a copy."""
        return Selection(self.pixels, index)

    def take(self, index: np.ndarray | slice) -> Images:
        """Return the images at ``index``, in its order; a slice is a view, anything else a copy in memory."""
        return Images(self.pixels[index], self.labels[index])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, pixels and labels, in order."""
        content = hashlib.sha256(repr(self.pixels.shape).encode())
        for start in range(0, len(self), BLOCK):
            content.update(np.ascontiguousarray(self.pixels[start : start + BLOCK]).data)
        content.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return content.hexdigest()

    @cached_property
    def histogram(self) -> np.ndarray:
        """How often each channel has each value, (C, 256)."""
        channels = self.pixels.shape[1]
        counts = np.zeros((channels, 256), dtype=np.int64)
        for start in range(0, len(self), BLOCK):
            block = self.pixels[start : start + BLOCK]
            for channel in range(channels):
                counts[channel] += np.bincount(block[:, channel].ravel(), minlength=256)
        return counts


@dataclass(frozen=True, eq=False)
class Split:
    """Training images, queries and the database they search, with the protocol that chose them."""

    name: str
    protocol: str
    train: Images
    queries: Images
    database: Images
    classes: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, for provenance."""
        content = hashlib.sha256(repr(self.classes).encode())
        for images in (self.train, self.queries, self.database):
            content.update(bytes.fromhex(images.digest))
        return content.hexdigest()

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, on the scale 0 to 1."""
        counts = self.train.histogram
        return tuple(float(value) for value in counts @ np.arange(256) / counts.sum(1) / 255)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, on the scale 0 to 1; 1 where all are equal."""
        counts = self.train.histogram
        square = counts @ np.arange(256) ** 2 / counts.sum(1) / 255**2
        spread = np.sqrt(np.maximum(square - np.square(self.mean), 0))
        return tuple(float(value) if value > 1e-6 else 1.0 for value in spread)

    def __str__(self) -> str:
        channels, height, width = self.train.pixels.shape[1:]
        return (
            f"{self.name}, protocol {self.protocol}: {len(self.train):,} train, {len(self.queries):,} queries, "
            f"{len(self.database):,} database, {len(self.classes)} classes, {channels}x{height}x{width}"
        )
