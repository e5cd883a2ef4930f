"""Locality-sensitive hashing: signs of random projections of the features (Charikar, STOC 2002)."""

from __future__ import annotations

import torch
from torch import Tensor

from .closed_form import ClosedForm


class Lsh(ClosedForm):
    """Each bit is the sign of a random projection of the centred features (Charikar 2002, STOC)."""

    def solve(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight (bits, D) and bias (bits,) of the head for features (N, D)."""
        generator = torch.Generator().manual_seed(self.seed)
        weight = torch.randn(self.bits, features.shape[1], generator=generator)
        return weight, -weight @ features.mean(0)
