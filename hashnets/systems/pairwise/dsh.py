"""Deep supervised hashing (Liu, Wang, Shan & Chen, CVPR 2016)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.batch_pairs import contrastive
from ...losses.quantisation import quantisation_l1
from ..base import Batch, System
from ..relaxations import Identity


class Dsh(System):
    """DSH: contrastive loss of the pairs of a batch with margin ``2 bits``, plus ``alpha`` times the L1 distance from corners.

    No squashing: the outputs themselves are compared. ``alpha`` weighs a sum over the bits of both items of a pair.
    """

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, alpha: float = 0.01) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(alpha=float(alpha))
        self.alpha, self.margin = float(alpha), 2.0 * arch.bits
        self.relax = Identity()

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = self.relax(outputs)
        corners = 2 * codes.shape[1] * quantisation_l1(codes)
        return contrastive(codes, batch.labels, self.margin) + self.alpha * corners
