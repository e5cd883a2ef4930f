"""Triplet hashing: a hinge on relaxed Hamming distances (Norouzi, Fleet & Salakhutdinov, NeurIPS 2012)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.triplets import triplet_hinge
from ..base import Batch, System
from ..relaxations import Tanh


class Triplet(System):
    """An item lies nearer to similar ones than to others by ``margin``, a share of the bits, over all triplets of a batch."""

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, margin: float = 0.25) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(margin=float(margin))
        self.margin = float(margin)
        self.relax = Tanh()

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = self.relax(outputs)
        distances = (1 - codes @ codes.T / codes.shape[1]) / 2
        return triplet_hinge(distances, batch.labels, self.margin)
