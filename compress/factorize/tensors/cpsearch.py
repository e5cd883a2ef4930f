"""Errors of CP fits at one rank after another, each going on from the one before: what a search over ranks asks for.

Near the end of a search ranks differ by few terms, and a fit that goes on needs a quarter of the sweeps of a new one.
"""

from __future__ import annotations

import numpy as np

from .algebra import cp_to_tensor
from .cpd import affordable, als, start, turned
from .kruskal import Factors, balanced, error

FIRST, NEXT = 45, 12  # sweeps of alternating least squares


class Search:
    """Fits of a tensor (I_1, ..., I_N), at whatever rank is asked for next."""

    def __init__(self, tensor: np.ndarray, seed: int = 0) -> None:
        self.tensor, self.seed = turned(np.ascontiguousarray(tensor, dtype=np.float64))[0], seed
        self.factors: Factors | None = None

    def error(self, rank: int) -> float:
        """Return the relative error of a fit with ``rank`` terms."""
        if not self.tensor.any():
            return 0.0
        shape = self.tensor.shape
        if self.factors is None:
            norm = float(np.linalg.norm(self.tensor))
            begun, sweeps = start(shape, rank, norm, (self.seed, rank)), FIRST
        else:
            begun, sweeps = self._resized(self.factors, rank), NEXT
        self.factors, _ = als(self.tensor, begun, affordable(shape, rank, sweeps, "als"))
        return error(self.tensor, self.factors)

    def _resized(self, factors: Factors, rank: int) -> Factors:
        """Return the factors without their smallest terms, or with new ones about as large as what they leave."""
        factors = balanced(factors)
        more = rank - factors[0].shape[1]
        if more <= 0:
            return tuple(np.ascontiguousarray(factor[:, :rank]) for factor in factors)
        rest = float(np.linalg.norm(self.tensor - cp_to_tensor((None, factors))))
        new = start(self.tensor.shape, more, max(rest, 1e-12), (self.seed, rank))
        return tuple(np.concatenate(pair, axis=1) for pair in zip(factors, new, strict=True))
