"""Mean and covariance of what layers see and give on images: of input patches, and of responses at sampled places.

Memory is bounded by the matrices, not by the images or the network: values are taken out while a batch runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...core.data.images import Pixels
from ...core.errors import InputError
from ...core.layers import get_layer
from ...core.model import HashModel
from .covariance import SecondMoments
from .im2col import output_size, patches
from .responses import responses
from .runner import observe
from .sampling import batches, drawn, drawn_places

ROWS = 256  # of a matrix worked on together


@dataclass
class Moments:
    """Mean (D,) and covariance (D, D) of rows that come in portions; float64. Rows are kept as long as they are few."""

    size: int
    count: int = 0
    total: np.ndarray = field(init=False)
    rows: list[np.ndarray] = field(default_factory=list)
    squares: SecondMoments | None = None

    def __post_init__(self) -> None:
        self.total = np.zeros(self.size)
        self.shift: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        """Count ``rows`` (N, D) in; sums are taken around the first portion's mean, so that nothing cancels."""
        rows = rows.astype(np.float64)
        if self.shift is None:
            self.shift = rows.mean(axis=0)
        rows = rows - self.shift
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        self.rows.append(rows)
        if sum(len(rows) for rows in self.rows) > self.size // 2:
            self._squared()

    def _squared(self) -> np.ndarray:
        squares = self.squares or SecondMoments(self.size)
        for rows in self.rows:
            squares.add_array(rows)
        self.rows, self.squares = [], squares
        return squares.gram.numpy()

    @property
    def mean(self) -> np.ndarray:
        """The mean."""
        shift = np.zeros(self.size) if self.shift is None else self.shift
        return shift + self.total / max(self.count, 1)

    @property
    def covariance(self) -> np.ndarray:
        """The covariance around the mean."""
        mean = self.total / max(self.count, 1)
        result = self._squared() / max(self.count, 1)
        for start in range(0, self.size, ROWS):
            result[start : start + ROWS] -= np.outer(mean[start : start + ROWS], mean)
        return result

    @property
    def products(self) -> np.ndarray | None:
        """Products (N, N) of all rows with each other over N, of the same variances as the covariance; None of many rows."""
        if self.squares is not None or not self.rows:
            return None
        rows = np.concatenate(self.rows) - self.total / self.count
        return rows @ rows.T / self.count


def response_moments(
    model: HashModel, pixels: Pixels, paths: Sequence[str], *, places: int = 10, seed: int = 0
) -> dict[str, Moments]:
    """Return the moments of the responses of many layers, in one run and without keeping the responses."""
    moments: dict[str, Moments] = {}
    for start, part in batches(pixels, "statistics"):
        found = responses(model, part, paths, places=places, seed=seed + start)
        for path, rows in found.outputs.items():
            moments.setdefault(path, Moments(rows.shape[1])).add(rows)
    return moments


def patch_moments(
    model: HashModel,
    pixels: Pixels,
    path: str,
    *,
    channels: bool = False,
    places: int = 10,
    seed: int = 0,
) -> list[Moments]:
    """Return, for every group of a layer, the moments of its input patches (S / groups, kh, kw), flattened.

    With ``channels`` only those of single pixels (S / groups,).
    """
    layer: Any = get_layer(model.net, path)
    dense = isinstance(layer, nn.Linear)
    groups = 1 if dense else layer.groups
    kernel = (1, 1) if dense or channels else layer.kernel_size
    size = (layer.in_features if dense else layer.in_channels // groups) * kernel[0] * kernel[1]
    moments = [Moments(size) for _ in range(groups)]
    random = np.random.default_rng(seed)

    def take(given: Tensor, _output: Tensor) -> None:
        for group, part in zip(moments, given.chunk(groups, dim=-1 if dense else 1), strict=True):
            if dense:
                group.add(part.reshape(-1, size).numpy())
                continue
            if channels:
                rows = drawn(part.flatten(2), places, random)
            else:
                chosen = drawn_places(len(part), prod(output_size(part, layer)), places, random)
                rows = patches(part, layer, chosen)
            group.add(rows.reshape(-1, size).contiguous().numpy())

    observe(model.net, model.arch.input, pixels, {path: take}, what="patches")
    if not moments[0].count:
        raise InputError(f"layer {path!r} did not run: nothing is known about its inputs")
    return moments
