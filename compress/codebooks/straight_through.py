"""Weights that are trained while they are shared: the forward pass sees the codebook, the gradient passes straight through.

The centres stay while weights move; between epochs the borders are drawn anew, so that the bits cost what they should.
(Straight-through estimator: Bengio et al. 2013, arXiv:1308.3432; a price on bits in training: Chou, Lookabaugh & Gray
1989 and DeepCABAC.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...core.errors import InputError
from ...modelfile.coding import rate
from ..allocate import bisect
from . import kmeans

WIDEST = 100.0  # a price is looked for within this factor, then above it as far as it takes
HIGHEST = 1e9  # in units of the layers' mean energy per weight: nothing is worth that much
ROUNDS = 30  # of counting symbols and drawing borders


class Latent(nn.Module):
    """The parametrization of one weight: factors (O, 1, ...), sorted centres (K,) and the borders (K - 1,) between them."""

    scale: Tensor
    centres: Tensor
    borders: Tensor
    epochs: Tensor

    def __init__(self, weight: Tensor, scale: np.ndarray | None, entries: int, moved: float, price: float) -> None:
        super().__init__()
        factors = np.ones(len(weight)) if scale is None else scale
        self.register_buffer("scale", torch.from_numpy(factors).float().view(-1, *[1] * (weight.ndim - 1)))
        self._moved = moved
        values = self._values(weight)
        found, _ = kmeans.priced(values, np.full(len(values), moved), entries, price)
        self.register_buffer("centres", torch.from_numpy(np.sort(found)).float())
        self.register_buffer("borders", torch.zeros(len(found) - 1))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))  # seen in training, kept with its state
        self.reprice(weight, price)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the shared values, with the gradient of ``weight``."""
        shared = self.centres[self.places(weight)] * self.scale
        return weight + (shared - weight).detach()

    def places(self, weight: Tensor) -> Tensor:
        """Return the place of each weight's value among the sorted centres."""
        return torch.bucketize((weight.detach() / self.scale).contiguous(), self.borders)

    @torch.no_grad()
    def reprice(self, weight: Tensor, price: float) -> float:
        """Draw the borders for ``weight`` at ``price`` a bit and return the bits of an ideal coder."""
        values, centres = np.sort(self._values(weight)), self.centres.double().numpy()
        middles, gaps = (centres[1:] + centres[:-1]) / 2, np.maximum(np.diff(centres), 1e-12)
        borders, bits = middles, 0.0
        for _ in range(ROUNDS):
            counts = np.diff(np.searchsorted(values, borders), prepend=0, append=len(values))
            lengths = rate.code_lengths(counts)
            bits = rate.total_bits(counts, lengths)
            new = np.maximum.accumulate(middles + price * np.diff(lengths) / (2 * self._moved * gaps))
            if np.array_equal(new, borders):
                break
            borders = new
        self.borders.copy_(torch.from_numpy(borders))
        return bits

    def _values(self, weight: Tensor) -> np.ndarray:
        return (weight.detach() / self.scale).double().numpy().reshape(-1)

    @torch.no_grad()
    def decided(self, weight: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return centres, the first of them zero, and the indices of ``weight`` among them, without unused ones."""
        values = self.centres.double().numpy()[self.places(weight).numpy()]
        used = np.unique(values)
        centres = np.concatenate([[0.0], used[used != 0]])
        order = np.argsort(centres, kind="stable")
        return centres, order[np.searchsorted(centres[order], values)]


def attach(layer: nn.Module, latent: Latent) -> None:
    """Make ``layer.weight`` shared while it trains, in place."""
    parametrize.register_parametrization(layer, "weight", latent)


def latent_of(layer: nn.Module) -> Latent:
    """Return the parametrization that :func:`attach` put there."""
    found = layer.parametrizations["weight"][0]  # type: ignore[union-attr,index]  # as above
    assert isinstance(found, Latent)  # noqa: S101  # attach was called
    return found


def fit_budget(pairs: Sequence[tuple[Latent, Tensor]], price: float, budget: float | None) -> float:
    """Draw the borders of all layers at one price and return it: ``price``, or the least that keeps to ``budget`` bits."""

    def bits(price: float) -> float:
        return sum(latent.reprice(weight, price) for latent, weight in pairs)

    if budget is None:
        bits(price)
        return price
    low, high = price / WIDEST, price * WIDEST
    while high < HIGHEST and bits(high) > budget:
        low, high = high, high * WIDEST
    _, high = bisect(lambda price: bits(price) > budget, low, high, ratio=1.001)
    if (least := bits(high)) > budget:
        raise InputError(
            f"share: no price brings the indices to {budget / 8:.0f} bytes; they take {least / 8:.0f} at least"
        )
    return high
