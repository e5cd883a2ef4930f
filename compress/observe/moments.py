"""Mean and covariance of layer inputs and outputs on images: of input patches, and of activations at sampled positions.

Memory is bounded by the matrices, not by the images or the network: values are reduced while a batch runs.
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
from .activations import sampled_activations
from .covariance import SecondMoments
from .im2col import output_size, patches
from .runner import observe
from .sampling import batches, drawn, drawn_places

ROWS = 256  # of a matrix worked on together


@dataclass
class Moments:
    """Mean (D,) and covariance (D, D) of rows added in batches; float64. Few rows are stored as they are."""

    size: int
    count: int = 0
    total: np.ndarray = field(init=False)
    rows: list[np.ndarray] = field(default_factory=list)
    squares: SecondMoments | None = None

    def __post_init__(self) -> None:
        self.total = np.zeros(self.size)
        self.shift: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        """Add ``rows`` (N, D). Sums are taken around the mean of the first batch to avoid cancellation."""
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
        """Gram matrix (N, N) of all centred rows over N, with the nonzero eigenvalues of the covariance; None if rows are not stored."""
        if self.squares is not None or not self.rows:
            return None
        rows = np.concatenate(self.rows) - self.total / self.count
        return rows @ rows.T / self.count


def activation_moments(
    model: HashModel, pixels: Pixels, paths: Sequence[str], *, places: int = 10, seed: int = 0
) -> dict[str, Moments]:
    """Return the moments of the activations of several layers, in one run and without storing the activations."""
    moments: dict[str, Moments] = {}
    for start, part in batches(pixels, "statistics"):
        found = sampled_activations(model, part, paths, places=places, seed=seed + start)
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
    """Return the moments of the flattened input patches (S / groups, kh, kw) of a layer, for each of its groups.

    With ``channels``, only those of single pixels (S / groups,).
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
