"""Training of shared weights with the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).

The forward pass uses the codebook values; the gradient passes straight through to the weights. The centres are fixed;
between epochs the decision thresholds are recomputed for a price on bits (Chou, Lookabaugh & Gray 1989; DeepCABAC,
arXiv:1907.11900).
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

WIDEST = 100.0  # the price is searched within this factor, then above it as far as needed
HIGHEST = 1e9  # in units of the layers' mean energy per weight: nothing is worth that much
ROUNDS = 30  # of counting symbols and drawing borders


class StraightThroughCodebook(nn.Module):
    """Parametrization of one weight: factors (O, 1, ...), sorted centres (K,) and the thresholds (K - 1,) between them."""

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
        self.register_buffer(
            "epochs", torch.zeros((), dtype=torch.int64)
        )  # counted during training and saved with its state
        self.set_price(weight, price)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the codebook values of ``weight``; the gradient with respect to ``weight`` is the identity."""
        shared = self.centres[self.places(weight)] * self.scale
        return weight + (shared - weight).detach()

    def places(self, weight: Tensor) -> Tensor:
        """Return the index of each weight among the sorted centres."""
        return torch.bucketize((weight.detach() / self.scale).contiguous(), self.borders)

    @torch.no_grad()
    def set_price(self, weight: Tensor, price: float) -> float:
        """Recompute the thresholds for ``weight`` at ``price`` per bit and return the bits of an ideal coder."""
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
    def final_codebook(self, weight: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return centres, zero first, and the indices of ``weight`` among them, without unused entries."""
        values = self.centres.double().numpy()[self.places(weight).numpy()]
        used = np.unique(values)
        centres = np.concatenate([[0.0], used[used != 0]])
        order = np.argsort(centres, kind="stable")
        return centres, order[np.searchsorted(centres[order], values)]


def attach_codebook(layer: nn.Module, codebook: StraightThroughCodebook) -> None:
    """Register ``codebook`` as the parametrization of ``layer.weight``, in place."""
    parametrize.register_parametrization(layer, "weight", codebook)


def codebook_of(layer: nn.Module) -> StraightThroughCodebook:
    """Return the parametrization registered by :func:`attach_codebook`."""
    found = layer.parametrizations["weight"][0]  # type: ignore[union-attr,index]  # as above
    assert isinstance(found, StraightThroughCodebook)  # noqa: S101  # attach_codebook was called
    return found


def fit_budget(pairs: Sequence[tuple[StraightThroughCodebook, Tensor]], price: float, budget: float | None) -> float:
    """Set one price for all layers and return it: ``price``, or the lowest with at most ``budget`` bits."""

    def bits(price: float) -> float:
        return sum(codebook.set_price(weight, price) for codebook, weight in pairs)

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
