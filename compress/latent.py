"""Weights that are trained while they are shared: the forward pass sees the codebook, the gradient passes straight through.

Between epochs the codebook is fitted anew to where the weights have moved, with the same price on bits. (Straight-through
estimator: Bengio et al. 2013, arXiv:1308.3432; a price on bits in training: Chou, Lookabaugh & Gray 1989 and DeepCABAC.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from . import clusters


class Latent(nn.Module):
    """The parametrization of one weight: factors (O, 1, ...), sorted centres (K,) and the borders (K - 1,) between them."""

    scale: Tensor
    centres: Tensor
    borders: Tensor

    def __init__(self, weight: Tensor, scale: np.ndarray | None, entries: int, moved: float, price: float) -> None:
        super().__init__()
        factors = np.ones(len(weight)) if scale is None else scale
        self.register_buffer("scale", torch.from_numpy(factors).float().view(-1, *[1] * (weight.ndim - 1)))
        self.register_buffer("centres", torch.zeros(entries + 2))
        self.register_buffer("borders", torch.full((entries + 1,), torch.inf))
        self._entries, self._moved, self._price = entries, moved, price
        self.refit(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the shared values, with the gradient of ``weight``."""
        shared = self.centres[self.places(weight)] * self.scale
        return weight + (shared - weight).detach()

    def places(self, weight: Tensor) -> Tensor:
        """Return the place of each weight's value among the sorted centres."""
        return torch.bucketize((weight.detach() / self.scale).contiguous(), self.borders)

    @torch.no_grad()
    def refit(self, weight: Tensor) -> None:
        """Fit centres and borders to ``weight``."""
        values = (weight / self.scale).double().numpy().reshape(-1)
        weights = np.full(len(values), self._moved)
        centres, indices = clusters.priced(values, weights, self._entries, self._price)
        bits = -np.log2(np.maximum(np.bincount(indices, minlength=len(centres)), 0.5) / len(values))
        order = np.argsort(centres, kind="stable")
        sorted_centres, sorted_bits = centres[order], bits[order]
        gaps = np.diff(sorted_centres)
        borders = (sorted_centres[1:] + sorted_centres[:-1]) / 2
        borders += self._price * np.diff(sorted_bits) / (2 * self._moved * np.maximum(gaps, 1e-12))
        borders = np.maximum.accumulate(borders)
        self.centres.fill_(float(sorted_centres[-1]))
        self.centres[: len(sorted_centres)] = torch.from_numpy(sorted_centres).float()
        self.borders.fill_(torch.inf)
        self.borders[: len(borders)] = torch.from_numpy(borders).float()

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


def original(layer: nn.Module) -> Tensor:
    """Return the weight behind the parametrization, the one that trains."""
    return layer.parametrizations["weight"].original  # type: ignore[union-attr,index]  # torch's typing knows no parametrizations


def latent_of(layer: nn.Module) -> Latent:
    """Return the parametrization that :func:`attach` put there."""
    found = layer.parametrizations["weight"][0]  # type: ignore[union-attr,index]  # as above
    assert isinstance(found, Latent)  # noqa: S101  # attach was called
    return found
