"""Sampling of training images, batches, and positions in the output of a layer.

All random draws depend only on a seed. Images are loaded a batch at a time: they need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.data.images import Pixels, Selection, Split, fitting_batch
from ...core.heap import released
from ...core.progress import track

BATCH, VALUES = 100, 1 << 20  # images that run together: at most so many, with so many values
SAMPLES = 4096  # least number of samples of every layer
PER_INPUT = 4  # samples wanted for every input


def chosen(split: Split, count: int, seed: int = 0) -> np.ndarray:
    """Return the sorted indices of at most ``count`` training images, drawn from ``seed``."""
    size = len(split.train)
    return np.sort(np.random.default_rng(seed).permutation(size)[: min(count, size)])


def choose(split: Split, count: int, seed: int = 0) -> Selection:
    """Return pixels (n, C, H, W) of at most ``count`` training images, drawn from ``seed``."""
    return split.train.select(chosen(split, count, seed))


def ranges_of(pixels: Pixels, most: int, values: int) -> Iterator[slice]:
    """Yield the ranges of images that run at once: at most ``most`` images with ``values`` values in all.

    The heap is trimmed between batches.
    """
    step = fitting_batch(pixels, most, values)
    for start in released(range(0, len(pixels), step)):
        yield slice(start, min(start + step, len(pixels)))


def batches(
    pixels: Pixels, what: str, most: int | None = None, values: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index of the first image and the pixels of each batch; progress is reported as ``what``."""
    most, values = most or BATCH, values or VALUES
    for part in track(ranges_of(pixels, most, values), what, -(-len(pixels) // fitting_batch(pixels, most, values))):
        yield part.start, pixels[part]


def drawn_places(images: int, length: int, places: int, random: np.random.Generator) -> Tensor | None:
    """Return ``places`` random indices below ``length`` for each image, (N, places), or None if there are not more of them."""
    return torch.from_numpy(random.integers(0, length, (images, places))) if places < length else None


def drawn(columns: Tensor, places: int, random: np.random.Generator) -> Tensor:
    """Return ``places`` random columns of each image as rows (N, places, D) of (N, D, L), or all if there are not more of them."""
    count, size, length = columns.shape
    chosen = drawn_places(count, length, places, random)
    if chosen is not None:
        columns = columns.gather(2, chosen[:, None, :].expand(-1, size, -1))
    return columns.transpose(1, 2)


class Places:
    """Random positions in the output of a layer, batch by batch, reproducible from a seed.

    ``images`` is the number of images in all batches.
    """

    def __init__(self, layer: Any, images: int, seed: int) -> None:
        self.points = -(-max(PER_INPUT * layer.weight[0].numel(), SAMPLES) // images)
        self.random = torch.Generator().manual_seed(seed)

    def draw(self, images: int, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, row and column of up to ``points`` positions in each of ``images``."""
        places = torch.rand(images, rows * columns, generator=self.random).argsort(1)[:, : self.points]
        image = torch.arange(images)[:, None].expand_as(places).reshape(-1)
        return image, places.reshape(-1) // columns, places.reshape(-1) % columns
